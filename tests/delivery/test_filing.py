from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.delivery import filing, moving
from omrwatchd.delivery.summary import SummaryLog
from omrwatchd.lifecycle import nobody_listens
from omrwatchd.model import Job, Status
from omrwatchd.queue.views import Views
from omrwatchd.receiver import Fault, Receiver
from tests.delivery.conftest import OpenStation, Station
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


def said_in_status(station: Station) -> dict[str, Any]:
    """The error of the one job, as `status --json` shows it."""
    [job] = Views(station.folder / "queue.db", SystemClock()).snapshot().document()["jobs"]
    error: dict[str, Any] = job["error"]
    return error


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
        assert said_in_status(station)["code"] == "not_yet_filed"
        assert "No space left" in said_in_status(station)["summary"]
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


def test_file_that_is_queued_again_while_it_is_filed(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy to failed/ takes a while; what is retried meanwhile is delivered from there, with one line."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="Not yet"))
    with open_station() as station, station.operator() as control:
        real, retried = filing.move, []

        def slowly(source: bytes, target: bytes, sign: moving.Sign) -> None:
            if not retried:
                retried.append(control.retry(job.id))
            real(source, target, sign)

        monkeypatch.setattr(filing, "move", slowly)
        job = station.drop()
        job = station.ends(job, Status.COMPLETED)
        assert job.path == os.fsencode(station.folder / "done" / "scan.zip")
        assert os.listdir(station.folder / "failed") == []
        lines = [json.loads(line) for line in (station.folder / "summary.jsonl").read_text().splitlines()]
        assert [line["status"] for line in lines] == ["completed"]


def test_file_that_is_queued_again_while_it_is_summed_up(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first end has its line, and so has the second."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="Not yet"))
    with open_station() as station, station.operator() as control:
        real, retried = SummaryLog.write, []

        def slowly(self: SummaryLog, ended: Job) -> None:
            real(self, ended)
            if not retried:
                retried.append(control.retry(ended.id))

        monkeypatch.setattr(SummaryLog, "write", slowly)
        station.ends(station.drop(), Status.COMPLETED)
        lines = [json.loads(line) for line in (station.folder / "summary.jsonl").read_text().splitlines()]
        assert [line["status"] for line in lines] == ["error", "completed"]


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


@pytest.mark.parametrize("room", [0, 20 * 1024], ids=["for nothing", "for the file, not for its text"])
def test_full_disk_delays_a_failed_file_and_all_that_goes_with_it(
    receiver: Receiver, open_station: OpenStation, small_disk: Path, room: int
) -> None:
    """File, sidecar and error text arrive in failed/ when there is room, each once and whole."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(60 * 1024 - room))
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="Task 9 is closed"))
    with open_station(start=False, watch={"failed": small_disk}) as station:
        job = station.drop(size=18_000)
        before = sha256(station.folder / "drop" / "scan.zip")
        (station.folder / "drop" / "scan.zip.toml").write_text("sheets = 3")
        station.worker.start()
        station.await_event(events.FilingDelayed)
        assert station.job(job).status is Status.ERROR
        ballast.unlink()
        station.ends(job, Status.ERROR)
        assert os.listdir(station.folder / "drop") == []
        assert sorted(os.listdir(small_disk)) == ["scan.zip", "scan.zip.error.txt", "scan.zip.toml"]
        assert sha256(small_disk / "scan.zip") == before
        assert "Task 9 is closed" in (small_disk / "scan.zip.error.txt").read_text()
        assert (small_disk / "scan.zip.toml").read_text() == "sheets = 3"
    assert len((station.folder / "summary.jsonl").read_text().splitlines()) == 1


CAP_DAC_OVERRIDE = 1 << 1


def _become_mortal() -> None:
    """Take from this thread alone what lets root write anywhere (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    data[0] &= ~CAP_DAC_OVERRIDE
    assert libc.capset(header, data) == 0


def test_folder_without_rights_delays_the_filing(receiver: Receiver, open_station: OpenStation) -> None:
    """done/ may not be written: delivered, said, waited out, filed when the right is there."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    with open_station(start=False) as station:
        done = station.folder / "done"
        done.mkdir()
        done.chmod(0o555)
        job = station.drop()
        run, station.worker.run = station.worker.run, lambda: (_become_mortal(), run())[1]  # type: ignore[method-assign]
        station.worker.start()
        assert "Permission denied" in station.await_event(events.FilingDelayed).reason
        until(lambda: station.job(job).status is Status.COMPLETED)
        assert said_in_status(station)["code"] == "not_yet_filed"
        done.chmod(0o755)
        station.ends(job, Status.COMPLETED)
        assert (done / "scan.zip").exists()
    assert len(receiver.batches) == 1


def test_done_folder_that_was_deleted_is_made_again(receiver: Receiver, open_station: OpenStation) -> None:
    """Somebody tidied up: the next file has its place all the same."""
    with open_station() as station:
        station.ends(station.drop("a.zip"), Status.COMPLETED)
        shutil.rmtree(station.folder / "done")
        station.ends(station.drop("b.zip"), Status.COMPLETED)
        assert os.listdir(station.folder / "done") == ["b.zip"]


def test_file_in_place_of_the_done_folder_delays_the_filing(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """What stands in the way is named, and left alone."""
    with open_station(start=False) as station:
        (station.folder / "done").write_text("not a folder")
        job = station.drop()
        station.worker.start()
        assert str(station.folder / "done") in station.await_event(events.FilingDelayed).reason
        (station.folder / "done").unlink()
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 1


def test_copy_that_a_crash_left_complete_is_not_made_twice(
    receiver: Receiver, open_station: OpenStation, small_disk: Path
) -> None:
    """Ended between the copy and the removal of the original: one file in done/, under its own name."""
    with open_station(start=False, watch={"done": small_disk}) as station:
        job = station.drop()
        target = os.fsencode(small_disk / "scan.zip")
        station.store.note(job.id, filing_target=target)
        shutil.copyfile(station.folder / "drop" / "scan.zip", target)  # with a time of its own
        station.worker.start()
        job = station.ends(job, Status.COMPLETED)
        assert job.path == target
        assert os.listdir(small_disk) == ["scan.zip"]
        assert os.listdir(station.folder / "drop") == []


def test_folder_that_is_half_removed_is_none_for_intake(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut while the original of a copied folder is removed leaves no smaller folder of pictures."""
    room = tmp_path / "drop" / "room"
    room.mkdir(parents=True)
    for number in range(3):
        (room / f"{number}.jpg").write_bytes(b"picture")

    def power_cut(folder: bytes) -> None:
        os.unlink(os.path.join(folder, b"1.jpg"))
        raise SystemExit

    monkeypatch.setattr(moving.shutil, "rmtree", power_cut)
    with pytest.raises(SystemExit):
        moving.move(os.fsencode(room), os.fsencode(small_disk / "room"), nobody_listens)
    assert [name for name in os.listdir(tmp_path / "drop") if not name.startswith(".")] == []
    assert sorted(os.listdir(small_disk / "room")) == ["0.jpg", "1.jpg", "2.jpg"]


def _fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_summary_log_may_be_rotated_and_may_be_full(
    receiver: Receiver, open_station: OpenStation, small_disk: Path
) -> None:
    """A renamed log is begun anew; on a full disk the line waits, whole, for room; each is written once."""
    log = small_disk / "summary.jsonl"
    with open_station(summary={"path": log}) as station:
        station.ends(station.drop("a.zip"), Status.COMPLETED)
        log.rename(small_disk / "summary.jsonl.1")
        station.ends(station.drop("b.zip"), Status.COMPLETED)
        ballast = small_disk / "ballast"
        _fill(ballast)
        log.rename(small_disk / "summary.jsonl.2")
        job = station.drop("c.zip")
        station.await_event(events.SummaryDelayed)
        assert station.job(job).status is Status.COMPLETED
        assert not log.exists() or log.read_bytes() == b""
        ballast.unlink()
        station.ends(job, Status.COMPLETED)
    lines = [path.read_text().splitlines() for path in sorted(small_disk.iterdir())]
    assert [len(each) for each in lines] == [1, 1, 1]


def test_text_goes_through_no_link_that_lies_in_its_way(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """Whoever may write into failed/ can have nothing of the daemon's overwritten by it."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="No."))
    with open_station(start=False) as station:
        job, victim = station.drop(), station.folder / "victim"
        victim.write_text("precious")
        (station.folder / "failed").mkdir()
        (station.folder / "failed" / ".scan.zip.error.txt.tmp").symlink_to(victim)
        station.worker.start()
        station.ends(job, Status.ERROR)
        assert victim.read_text() == "precious"
        assert "No." in (station.folder / "failed" / "scan.zip.error.txt").read_text()


def test_copy_goes_through_no_link_that_lies_in_its_way(tmp_path: Path, small_disk: Path) -> None:
    """The same for a file on its way to another file system."""
    source, victim = tmp_path / "scan.zip", tmp_path / "victim"
    source.write_bytes(b"sheets")
    victim.write_text("precious")
    (small_disk / ".scan.zip.copying").symlink_to(victim)
    moving.move(os.fsencode(source), os.fsencode(small_disk / "scan.zip"), nobody_listens)
    assert victim.read_text() == "precious"
    assert (small_disk / "scan.zip").read_bytes() == b"sheets"
    assert not (small_disk / "scan.zip").is_symlink()
