"""A share that goes away is no hundred removed files; a file that can't be read does not end the rest."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.model import Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from omrwatchd.sheets.source import FileRange, FileSource
from tests.delivery.conftest import OpenStation
from tests.waiting import until


class Share:
    """A drop folder whose files can be away; its mount point stays, and is bare then."""

    def __init__(self, at: Path, behind: Path) -> None:
        self._at, self._behind = at, behind
        self.is_away = False

    def leaves(self) -> None:
        self._at.rename(self._behind)
        self._at.mkdir()
        self.is_away = True

    def comes_back(self) -> None:
        self._at.rmdir()
        self._behind.rename(self._at)
        self.is_away = False

    def away(self, _watch: str, _look: bool) -> str | None:
        """What intake would tell."""
        return "it is not mounted" if self.is_away else None


@pytest.fixture
def share(tmp_path: Path) -> Share:
    return Share(tmp_path / "drop", tmp_path / "share")


def test_files_of_an_unmounted_share_wait_for_it(
    receiver: Receiver, open_station: OpenStation, share: Share
) -> None:
    """Nothing is ended, counted or uploaded twice; when the share is back, delivery goes on by itself."""
    asked: list[str] = []

    def away(watch: str, look: bool) -> str | None:
        """Not noticed yet when the first file's turn comes."""
        asked.append(watch)
        return share.away(watch, look) if len(asked) > 1 else None

    with open_station(start=False, away=away) as station:
        jobs = [station.drop(f"scan-{number}.zip") for number in range(3)]
        share.leaves()
        station.worker.start()
        assert "its drop folder is away" in station.await_event(events.UploadSuspended).reason
        until(lambda: "it is not mounted" in (station.tools_row().reason or ""), what="a reason in status")
        assert station.tools_row().state is WorkerState.HELD
        assert [station.job(job).status for job in jobs] == [Status.PENDING] * 3
        share.comes_back()
        for job in jobs:
            assert station.ends(job, Status.COMPLETED).attempts == 1
        assert len(station.announced(events.UploadSuspended)) == 1
    assert len(receiver.batches) == 3


def test_share_that_goes_after_the_delivery_delays_the_filing(
    receiver: Receiver, open_station: OpenStation, share: Share
) -> None:
    """'Delivered, not yet filed' until the share is back: filed then, never taken for another file."""
    receiver.add_fault(Fault(match="upload", action="delay", seconds=0.5))
    with open_station(away=share.away) as station:
        job = station.drop()
        until(lambda: station.job(job).parts[0].final_sent_at is not None, what="the last bytes")
        share.leaves()
        assert "is away: it is not mounted" in station.await_event(events.FilingDelayed).reason
        share.comes_back()
        station.ends(job, Status.COMPLETED)
        assert (station.folder / "done" / "scan.zip").exists()
    assert len(receiver.batches) == 1


def test_share_that_fails_for_a_moment_costs_an_attempt_at_most(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One EIO in mid-file: acknowledged chunks are kept, and the file goes on a little later."""
    failed: list[int] = []
    real = FileSource.pieces

    def once(self: FileSource, offset: int, length: int):  # type: ignore[no-untyped-def]
        if offset >= 3 * MIB and not failed:
            failed.append(offset)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, offset, length)

    monkeypatch.setattr(FileSource, "pieces", once)
    with open_station(upload={"concurrency": 1}) as station:
        job = station.ends(station.drop(size=5 * MIB), Status.COMPLETED)
    assert failed
    sent = [r.chunk_index for r in receiver.requests if r.kind == "chunk" and r.status == 200]
    assert sorted(index for index in sent if index is not None) == [0, 1, 2, 3, 4, 5]
    assert job.attempts == 2


def test_file_that_can_never_be_read_fails_alone(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken sector: after queue.max_attempts that file has failed, the next one is delivered."""
    real = FileRange.blocks

    def broken(self: FileRange, buffer: memoryview) -> Iterator[memoryview]:
        if os.fstat(self.descriptor).st_size > 10_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, buffer)

    monkeypatch.setattr(FileRange, "blocks", broken)
    with open_station(start=False) as station:
        bad, good = station.drop("bad.zip", size=50_000), station.drop("good.zip")
        station.worker.start()
        ended = station.ends(bad, Status.ERROR)
        station.ends(good, Status.COMPLETED)
    assert ended.problem is not None
    assert ended.problem.code == "unreadable"
    assert ended.attempts == 3


def test_link_in_place_of_the_file_is_refused_at_once(receiver: Receiver, open_station: OpenStation) -> None:
    """What can't be opened for good gets no second try."""
    with open_station(start=False) as station:
        job = station.drop()
        path = station.folder / "drop" / "scan.zip"
        path.rename(station.folder / "elsewhere.zip")
        path.symlink_to(station.folder / "elsewhere.zip")
        station.worker.start()
        ended = station.ends(job, Status.ERROR)
    assert ended.problem is not None
    assert (ended.problem.code, ended.attempts) == ("unreadable", 1)
    assert receiver.requests == []
