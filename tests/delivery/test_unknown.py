"""`upload.on_unknown` for each kind of upload, and each way to lose the last answer."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from omrwatchd.model import Job, Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation, Station
from tests.delivery.test_last_answer import FINAL
from tests.delivery.test_pictures import IMAGES
from tests.delivery.test_pictures import drop as drop_pictures
from tests.waiting import until

WAYS = {"chunked": 3 * MIB, "direct": 3_000, "images": 2_000}


def drop(station: Station, way: str) -> Job:
    return drop_pictures(station) if way == "images" else station.drop(size=WAYS[way])


def lose(receiver: Receiver, way: str, *, crash: bool) -> None:
    """The batch is made; its answer is lost, or so late that the daemon is dead by then."""
    action, seconds = ("delay", 60.0) if crash else ("lose_answer", 0.0)
    match, index = ("chunk", FINAL) if way == "chunked" else ("upload", None)
    receiver.add_fault(Fault(match=match, chunk_index=index, action=action, seconds=seconds))  # type: ignore[arg-type]


def copy_queue(source: Path, target: Path) -> None:
    """What a power cut leaves of a queue: all that was committed, and nothing of the end."""
    for path in (target, *target.parent.glob(f"{target.name}-*")):
        path.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


@pytest.mark.parametrize("on_unknown", ["review", "resend"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("crash", [False, True], ids=["lost", "crash"])
def test_lost_last_answer(
    receiver: Receiver, open_station: OpenStation, way: str, on_unknown: str, crash: bool
) -> None:
    """Only the final chunk of an upload that has an id goes out once more, and only if that is wanted."""
    lose(receiver, way, crash=crash)
    sections = {"upload": {"on_unknown": on_unknown}, "watch": IMAGES if way == "images" else {}}
    sent_again = way == "chunked" and on_unknown == "resend"
    end = Status.COMPLETED if sent_again else Status.ERROR
    with open_station(**sections) as station:
        job, queue = drop(station, way), station.folder / "queue.db"
        if crash:
            until(lambda: len(receiver.batches) == 1)
            copy_queue(queue, queue.with_name("left.db"))
        else:
            job = station.ends(job, end)
    if crash:
        receiver.clear_faults()
        copy_queue(queue.with_name("left.db"), queue)
        with open_station(**sections) as station:
            assert station.store.job(job.id).in_doubt
            job = station.ends(job, end)
    assert end is Status.COMPLETED or (job.problem is not None and job.problem.code == "outcome_unknown")
    assert len(receiver.batches) == 1
    finals = [r for r in receiver.requests if r.kind == "upload" or r.chunk_index == FINAL]
    assert len(finals) == (2 if sent_again else 1)
