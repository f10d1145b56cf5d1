from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.model import Status
from omrwatchd.receiver import Fault, Receiver
from tests.delivery.conftest import OpenStation
from tests.waiting import until
from tests.zips import sha256


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, another one than the drop folder's."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_taken_name_is_never_overwritten(receiver: Receiver, open_station: OpenStation) -> None:
    """A file of that name in done/ stays; the new one gets a timestamp and a short hash."""
    with open_station() as station:
        (station.folder / "done").mkdir()
        (station.folder / "done" / "scan.zip").write_bytes(b"earlier")
        job = station.ends(station.drop(), Status.COMPLETED)
        names = sorted(path.name for path in (station.folder / "done").iterdir())
        assert (station.folder / "done" / "scan.zip").read_bytes() == b"earlier"
        assert sha256(Path(os.fsdecode(job.path))) == receiver.batches[0].sha256
    assert len(names) == 2
    assert names[0].startswith("scan.2")


def test_done_on_another_file_system_gets_a_verified_copy(
    receiver: Receiver, open_station: OpenStation, small_disk: Path
) -> None:
    """Where a rename is impossible the file is copied, and the original removed after that."""
    with open_station(watch={"done": small_disk / "done"}) as station:
        station.ends(station.drop(), Status.COMPLETED)
        assert [p.name for p in (small_disk / "done").iterdir()] == ["scan.zip"]
        assert sha256(small_disk / "done" / "scan.zip") == receiver.batches[0].sha256
        assert not (station.folder / "drop" / "scan.zip").exists()


def test_full_disk_delays_filing_and_never_uploads_again(
    receiver: Receiver, open_station: OpenStation, small_disk: Path
) -> None:
    """'Delivered, not yet filed' is said, waited out and mended; the batch stays the only one."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(60 * 1024))
    with open_station(watch={"done": small_disk}) as station:
        job = station.drop(size=20_000)
        station.await_event(events.FilingDelayed)
        until(lambda: station.job(job).status is Status.COMPLETED)
        assert station.job(job).filing_problem is not None
        assert (station.folder / "drop" / "scan.zip").exists()
        assert [p.name for p in small_disk.iterdir()] == ["ballast"]
        ballast.unlink()
        station.ends(job, Status.COMPLETED)
        assert (small_disk / "scan.zip").exists()
    assert len(receiver.batches) == 1


def test_file_replaced_after_delivery_is_not_moved(receiver: Receiver, open_station: OpenStation) -> None:
    """What lies under the name by then is another exam: it stays for intake."""
    receiver.add_fault(Fault(match="upload", action="delay", seconds=0.6))
    with open_station() as station:
        job = station.drop()
        replacement = station.folder / "new"
        replacement.write_bytes(b"another exam")
        until(lambda: station.job(job).parts[0].final_sent_at)
        replacement.rename(station.folder / "drop" / "scan.zip")
        station.ends(job, Status.COMPLETED)
        assert (station.folder / "drop" / "scan.zip").read_bytes() == b"another exam"


def test_summary_line_is_written_once(receiver: Receiver, open_station: OpenStation) -> None:
    """A crash between the line and its confirmation does not repeat the line at the next start."""
    with open_station() as station:
        job = station.ends(station.drop(), Status.COMPLETED)
        log = station.folder / "summary.jsonl"
        once = log.read_text()
        station.store.note(job.id, summary_at=None)
    with open_station() as station:
        station.ends(job, Status.COMPLETED)
        assert log.read_text() == once
        assert len(once.splitlines()) == 1


def test_sidecar_and_marker_follow_their_zip(receiver: Receiver, open_station: OpenStation) -> None:
    """Filed under another name the companions get it, too; nothing stays behind."""
    with open_station(start=False, watch={"done_marker": "{name}.done"}) as station:
        (station.folder / "done").mkdir()
        (station.folder / "done" / "scan.zip").touch()
        job = station.drop()
        (station.folder / "drop" / "scan.zip.toml").write_text("sheets = 3")
        (station.folder / "drop" / "scan.zip.done").touch()
        station.worker.start()
        job = station.ends(job, Status.COMPLETED)
        name = os.path.basename(os.fsdecode(job.path))
        assert sorted(os.listdir(station.folder / "done")) == sorted(
            ["scan.zip", name, f"{name}.toml", f"{name}.done"]
        )
        assert os.listdir(station.folder / "drop") == []


LONG_NAMES = ["x" * 251 + ".zip", "ü" * 125 + ".zip", "x" * 241 + ".zip"]


@pytest.mark.parametrize("name", LONG_NAMES)
def test_delivered_file_keeps_the_longest_name(
    receiver: Receiver, open_station: OpenStation, name: str
) -> None:
    """A name that leaves no room for `.error.txt` is filed at once and whole: done/ holds no error texts."""
    with open_station() as station:
        job = station.ends(station.drop(name), Status.COMPLETED)
        assert os.path.basename(os.fsdecode(job.path)) == name
        assert os.listdir(station.folder / "done") == [name]
        assert not station.announced(events.FilingDelayed)
    assert [batch.filename for batch in receiver.batches] == [name]


@pytest.mark.parametrize("name", LONG_NAMES)
def test_failed_file_of_the_longest_name_has_its_text(
    receiver: Receiver, open_station: OpenStation, name: str
) -> None:
    """In failed/ it is shortened so that the text beside it has a name, and no character is cut in two."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="bad scan", times=1))
    with open_station() as station:
        job = station.ends(station.drop(name), Status.ERROR)
        [zip_name, text_name] = sorted(os.listdir(station.folder / "failed"), key=len)
        assert text_name == f"{zip_name}.error.txt"
        assert zip_name.endswith(".zip")
        assert name.startswith(zip_name.removesuffix(".zip"))
        zip_name.encode()  # no half of a character, which would be a surrogate here
        assert station.job(job).filing_problem is None
