"""The lost last answer: looked up, sent once more, or reviewed; never a silent second batch."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

import pytest

from omrwatchd import events
from omrwatchd.errors import Problem
from omrwatchd.model import Status
from omrwatchd.queue import database
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation
from tests.waiting import until

LOOKUP = {"lookup_path": "/batches/by-upload/{upload_id}"}
FINAL = 3  # of a file a little above 3 MiB


def test_batch_that_exists_is_found(receiver: Receiver, open_station: OpenStation) -> None:
    """The answer to the final chunk is lost, the lookup names the batch: delivered, nothing sent again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="lose_answer"))
    with open_station(server=LOOKUP) as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
    [batch] = receiver.batches
    assert job.batch_ids == (batch.batch_id,)
    assert [r.chunk_index for r in receiver.requests if r.kind == "chunk"].count(FINAL) == 1


def test_definitely_absent_batch_is_sent_again(receiver: Receiver, open_station: OpenStation) -> None:
    """A gateway took the final chunk and lost it; three looks say 'absent', and it goes out again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=502))
    with open_station(server=LOOKUP) as station:
        station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
    assert len(receiver.batches) == 1
    kinds = [r.kind for r in receiver.requests if r.kind == "lookup" or r.chunk_index == FINAL]
    assert kinds == ["chunk", "lookup", "lookup", "lookup", "chunk"]


@pytest.mark.parametrize("status", [503, 404])
def test_lookup_that_fails_permits_nothing(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """An error, or a proxy's 404 page, is no 'absent': the queue is held and it is asked again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="lose_answer"))
    receiver.add_fault(Fault(match="lookup", action="status", status=status, html="<h1>no</h1>"))
    with open_station(server=LOOKUP) as station:
        job = station.drop(size=3 * MIB)
        station.await_event(events.QueueHeld)
        job = station.ends(job, Status.COMPLETED)
        assert job.failures == 0
    assert len(receiver.batches) == 1


def test_lookup_after_a_crash(receiver: Receiver, open_station: OpenStation) -> None:
    """The daemon ended between the last bytes and the answer: at the next start it looks the batch up."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="lose_answer"))
    with open_station(server=LOOKUP) as station:
        job = station.drop(size=3 * MIB)
        until(lambda: len(receiver.batches) == 1)
        station.worker.stop()
    with open_station(server=LOOKUP) as station:
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 1


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_without_a_lookup_a_person_reviews(receiver: Receiver, open_station: OpenStation, size: int) -> None:
    """By default, direct or in chunks: `outcome_unknown`, filed with advice, nothing sent again."""
    match = "upload" if size == 1000 else "chunk"
    receiver.add_fault(
        Fault(match=match, chunk_index=None if size == 1000 else FINAL, action="lose_answer")  # type: ignore[arg-type]
    )
    with open_station() as station:
        job = station.ends(station.drop(size=size), Status.ERROR)
        assert job.problem is not None
        assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1


def test_direct_upload_is_never_sent_again_by_itself(receiver: Receiver, open_station: OpenStation) -> None:
    """Neither the lookup (it has no upload_id) nor 'resend' apply to a direct upload."""
    receiver.add_fault(Fault(match="upload", action="lose_answer"))
    with open_station(server=LOOKUP, upload={"on_unknown": "resend"}) as station:
        job = station.ends(station.drop(), Status.ERROR)
        assert job.problem is not None
        assert job.problem.code == "outcome_unknown"
    assert len([r for r in receiver.requests if r.kind == "upload"]) == 1


def test_resend_finishes_a_final_chunk_that_was_lost_on_the_way(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A gateway lost the final chunk; sent once more, of the same upload, it makes the batch."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=504))
    with open_station(upload={"on_unknown": "resend"}) as station:
        station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
    assert len(receiver.batches) == 1
    assert [r.chunk_index for r in receiver.requests].count(FINAL) == 2


@pytest.mark.parametrize("fault", ["forget", "lose_answer"])
def test_resend_that_tells_nothing_is_reviewed(
    receiver: Receiver, open_station: OpenStation, fault: str
) -> None:
    """A 410, or a second lost answer, ends the automatic way: once more means once."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=504))
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action=fault))  # type: ignore[arg-type]
    with open_station(upload={"on_unknown": "resend"}) as station:
        job = station.ends(station.drop(size=3 * MIB), Status.ERROR)
        assert job.problem is not None
        assert job.problem.code == "outcome_unknown"
    assert [r.chunk_index for r in receiver.requests].count(FINAL) == 2
    assert [r.chunk_index for r in receiver.requests].count(0) == 1


def test_resend_into_an_outage_is_still_owed(receiver: Receiver, open_station: OpenStation) -> None:
    """The server goes away while the final chunk goes out once more: held, and sent when it is back."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=504))
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=503, times=3))
    receiver.add_fault(Fault(match="probe", action="status", status=502, times=2))
    with open_station(server={"probe_path": "/health"}, upload={"on_unknown": "resend"}) as station:
        job = station.drop(size=3 * MIB)
        station.await_event(events.QueueHeld)
        until(lambda: station.job(job).status is Status.PENDING)
        assert station.job(job).in_doubt
        job = station.ends(job, Status.COMPLETED)
    assert (job.attempts, len(receiver.batches)) == (1, 1)


def test_queue_that_is_locked_while_the_last_answer_comes(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's open transaction leaves no batch in doubt: it is recorded as soon as that ends."""
    engine = database._engine
    monkeypatch.setattr(database, "_engine", lambda file, mode, _patience=0.0: engine(file, mode, 0.1))
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="delay", seconds=1.0))
    with open_station() as station:
        job = station.drop(size=3 * MIB)
        until(lambda: len(receiver.batches) == 1)
        with contextlib.closing(sqlite3.connect(station.folder / "queue.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            until(lambda: receiver.requests[-1].ended is not None)
            answered = time.monotonic()
            until(lambda: time.monotonic() > answered + 0.5)  # several tries
            assert station.job(job).in_doubt
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 1


def test_cancel_while_the_last_answer_is_awaited_says_that_the_batch_may_exist(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """It ends at once, and a `retry` without --force would be a silent second batch."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="delay", seconds=30))
    with open_station() as station, station.operator() as control:
        job = station.drop(size=3 * MIB)
        until(lambda: len(receiver.batches) == 1)
        control.cancel(job.id)
        job = station.ends(job, Status.ABORTED, 5.0)
        assert job.problem is not None
        assert job.problem.code == "outcome_unknown"
        assert "may exist" in (station.folder / "failed" / "scan.zip.error.txt").read_text()
        with pytest.raises(Problem, match="may be on the server"):
            control.retry(job.id)
    assert len(receiver.batches) == 1


def test_other_failure_of_a_part_does_not_hide_that_one_is_in_doubt(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """Part 1 is refused, part 2 may be a batch: the text says so, and a retry of both asks for --force."""
    first, second = "scan.part1of2.zip", "scan.part2of2.zip"
    receiver.add_fault(Fault(match="upload", filename=first, action="status", status=422, message="Full"))
    receiver.add_fault(Fault(match="upload", filename=second, action="lose_answer"))
    with (
        open_station(split={"max_sheets": 3}) as station,
        station.operator() as control,
    ):
        job = station.ends(station.drop(sheets=6), Status.ERROR)
        assert "may exist" in (station.folder / "failed" / "scan.zip.error.txt").read_text()
        with pytest.raises(Problem, match="may be on the server"):
            control.retry(job.id)
        assert "--force" in control.retry_failed()[0].words
    assert [batch.filename for batch in receiver.batches] == [second]


def test_server_that_fails_over_the_whole_file_and_then_forgets_it_is_reviewed(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """500 to the final chunk, then 410: the batch may have been made before it failed."""
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="status", status=500, processed=True))
    receiver.add_fault(Fault(match="chunk", chunk_index=FINAL, action="forget"))
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.ERROR)
    assert job.problem is not None
    assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1


def test_file_that_changes_in_doubt_is_not_forgotten(receiver: Receiver, open_station: OpenStation) -> None:
    """The old content may be a batch: that is said, and the new content is a file of its own."""
    with open_station(start=False) as station:
        job = station.drop()
        station.worker._tools.road.ledger.final_goes_out(job.parts[0])
        path = station.folder / "drop" / "scan.zip"
        path.write_bytes(b"another exam")
        station.worker.start()
        job = station.ends(job, Status.ERROR)
        assert job.problem is not None
        assert job.problem.code == "outcome_unknown"
        assert path.read_bytes() == b"another exam"
        assert os.fsencode(path) not in station.store.open_paths()
