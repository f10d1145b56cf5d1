from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.intake.admit import Admission, Admitted
from omrwatchd.intake.scan import scan_folders
from omrwatchd.model import Job, Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from omrwatchd.sheets.pictures import Picture, PictureSet
from tests.delivery.conftest import OpenStation, Station
from tests.delivery.test_filing import small_disk  # noqa: F401 - a fixture
from tests.pictures import write_pictures
from tests.waiting import until

IMAGES = {"upload_type": "images", "task_id": "7"}
NAMES = [f"{number:02}.jpg" for number in (3, 1, 2, 5, 4)]


def drop(station: Station, name: str = "room", *, size: int = 2_000) -> Job:
    """Through intake's own door, without waiting for the folder to settle."""
    write_pictures(station.folder / "drop" / name, NAMES, size=size)
    [found] = scan_folders(os.fsencode(station.folder / "drop"), ignore=()).files
    watch = station.settings.watch[0]
    outcome = Admission(watch, station.store, station.settings).admit(found, ask_lease=True)
    assert isinstance(outcome, Admitted)
    return station.store.job(outcome.job)


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def arrived(receiver: Receiver) -> list[tuple[str, bytes]]:
    return [(file.name, file.path.read_bytes()) for batch in receiver.batches for file in batch.files]


def test_folder_is_one_request_with_a_file_a_picture(receiver: Receiver, open_station: OpenStation) -> None:
    """All pictures in the order of their names, one batch; the folder lies in done/ as it was."""
    with open_station(watch=IMAGES) as station:
        job = drop(station)
        before = contents(station.folder / "drop" / "room")
        job = station.ends(job, Status.COMPLETED)
        [batch] = receiver.batches
        assert (batch.upload_type, batch.task_id) == ("images", "7")
        assert arrived(receiver) == before == contents(station.folder / "done" / "room")
        assert os.listdir(station.folder / "drop") == []
        assert job.batch_ids == (batch.batch_id,)


def test_folder_over_the_limit_becomes_several_batches(receiver: Receiver, open_station: OpenStation) -> None:
    """Two pictures fit a request: three batches in name order; one job, filed when all are done."""
    with open_station(watch=IMAGES) as station:
        job = drop(station, size=900_000)
        before = contents(station.folder / "drop" / "room")
        job = station.ends(job, Status.COMPLETED)
        assert [len(batch.files) for batch in receiver.batches] == [2, 2, 1]
        assert arrived(receiver) == before
        assert job.batch_ids == tuple(batch.batch_id for batch in receiver.batches)
    assert max(request.body_bytes for request in receiver.requests) <= 2 * MIB


def test_lost_connection_in_the_middle_of_pictures_is_retried(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A request that was cut before its end made no batch: it is sent again."""
    receiver.add_fault(Fault(match="upload", action="cut", after_bytes=300_000))
    with open_station(watch=IMAGES, upload={"direct_limit": 40 * MIB}) as station:
        job = drop(station, size=5 * MIB)
        before = contents(station.folder / "drop" / "room")
        station.ends(job, Status.COMPLETED)
        assert arrived(receiver) == before


def test_folder_that_changed_while_it_waited_is_not_sent(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """One more picture is another batch: the folder goes back to settling."""
    with open_station(start=False, watch=IMAGES) as station:
        job = drop(station)
        (station.folder / "drop" / "room" / "06.jpg").write_bytes(b"late")
        station.worker.start()
        station.await_event(events.SourceChanged)
        until(lambda: job.path not in station.store.open_paths())
    assert receiver.batches == []


def test_share_that_fails_between_two_batches_of_a_folder_costs_an_attempt_at_most(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be read for a moment was not changed: the batches that are missing follow."""
    failed: list[bytes] = []
    real, real_open = PictureSet.open, os.open

    def once(self: PictureSet, picture: Picture) -> int:
        if receiver.batches and not failed:
            failed.append(picture.name)
            monkeypatch.setattr(os, "open", broken)
        return real(self, picture)

    def broken(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            return real_open(path, flags, mode)
        monkeypatch.undo()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_station(start=False, watch=IMAGES) as station:
        job = drop(station, size=900_000)
        before = contents(station.folder / "drop" / "room")
        monkeypatch.setattr(PictureSet, "open", once)
        station.worker.start()
        job = station.ends(job, Status.COMPLETED)
        assert arrived(receiver) == before
    assert failed
    assert job.attempts == 2


def test_taken_folder_name_is_never_overwritten(receiver: Receiver, open_station: OpenStation) -> None:
    """A folder of that name in done/ stays as it is, empty or not."""
    with open_station(watch=IMAGES) as station:
        (station.folder / "done" / "room").mkdir(parents=True)
        job = station.ends(drop(station), Status.COMPLETED)
        assert os.listdir(station.folder / "done" / "room") == []
        assert len(os.listdir(os.fsdecode(job.path))) == len(NAMES)


def test_refused_folder_lies_in_failed_with_its_text(receiver: Receiver, open_station: OpenStation) -> None:
    """413 can't be helped with smaller chunks here: the folder fails with the advice beside it."""
    receiver.add_fault(Fault(match="upload", action="status", status=413, html="<h1>413</h1>"))
    with open_station(watch=IMAGES) as station:
        job = station.ends(drop(station), Status.ERROR)
        assert sorted(os.listdir(station.folder / "failed")) == ["room", "room.error.txt"]
    assert job.problem is not None
    assert "direct_limit" in job.problem.advice


@pytest.mark.usefixtures("small_disk")
def test_folder_is_copied_to_another_file_system(
    receiver: Receiver, open_station: OpenStation, tmp_path: Path
) -> None:
    """Where a rename is impossible every picture is copied and compared, then the original goes."""
    with open_station(watch=IMAGES | {"done": tmp_path / "small" / "done"}) as station:
        job = drop(station)
        before = contents(station.folder / "drop" / "room")
        station.ends(job, Status.COMPLETED)
        assert contents(tmp_path / "small" / "done" / "room") == before
        assert os.listdir(station.folder / "drop") == []
