from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.intake.admit import Admission, Admitted
from omrwatchd.intake.scan import scan
from omrwatchd.model import Metadata, Status, UploadType
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_small_file_goes_in_one_request_and_is_filed(receiver: Receiver, open_station: OpenStation) -> None:
    """A ZIP below the limit arrives whole as one batch, lies in done/ and has one line in the summary."""
    with open_station() as station:
        job = station.drop(metadata=Metadata(UploadType.ZIP_NO_QR, task_id="7", notes="Raum 3", profile_id=4))
        before = sha256(station.folder / "drop" / "scan.zip")
        job = station.ends(job, Status.COMPLETED)
        [batch] = receiver.batches
        assert batch.sha256 == before == sha256(station.folder / "done" / "scan.zip")
        assert (batch.task_id, batch.notes, batch.profile_id) == ("7", "Raum 3", 4)
        assert job.batch_ids == (batch.batch_id,)
        assert not (station.folder / "drop" / "scan.zip").exists()
        [line] = (station.folder / "summary.jsonl").read_text().splitlines()
        assert json.loads(line)["batch_ids"] == [batch.batch_id]


@pytest.mark.parametrize("year", [1901, 2262, 2440])
def test_time_of_change_is_any_that_a_file_system_keeps(
    receiver: Receiver, open_station: OpenStation, year: int
) -> None:
    """Beyond the year 2262 it has more than 64 bits, and is no integer for the queue: nothing dies of it."""
    with open_station() as station:
        path = write_zip(station.folder / "drop" / "scan.zip", sheets=3, size=3_000)
        seconds = int(datetime(year, 6, 1, tzinfo=UTC).timestamp()) if year > 1901 else -(2**31)
        os.utime(path, ns=(0, seconds * 10**9))
        if path.stat().st_mtime_ns != seconds * 10**9:
            pytest.skip("this file system keeps no such time")
        [found] = scan(os.fsencode(path.parent), recursive=False, ignore=()).files
        admission = Admission(station.settings.watch[0], station.store, station.settings)
        outcome = admission.admit(found, ask_lease=False)
        assert isinstance(outcome, Admitted)
        station.ends(station.store.job(outcome.job), Status.COMPLETED)
    assert len(receiver.batches) == 1


def test_chunks_go_first_alone_then_four_at_a_time_then_the_final_one(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """Chunk 0 is answered before another begins, and the final chunk begins when all others are answered."""
    receiver.add_fault(Fault(match="chunk", action="delay", seconds=0.1, times=-1))
    with open_station() as station:
        job = station.drop(size=9 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        station.ends(job, Status.COMPLETED)
    log = {request.chunk_index: request for request in receiver.requests if request.kind == "chunk"}
    assert sorted(index for index in log if index is not None) == list(range(10))
    assert log[0].ended <= min(log[i].started for i in range(1, 10))
    assert log[9].started >= max(log[i].ended for i in range(9))
    assert receiver.max_concurrent == 4
    assert receiver.batches[0].sha256 == before


def test_chunk_is_tried_three_times(receiver: Receiver, open_station: OpenStation) -> None:
    """A chunk that fails twice with 503 is sent again after about 2 s and 4 s, and the file arrives."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=503, times=2))
    with open_station() as station:
        job = station.ends(station.drop(size=5 * MIB), Status.COMPLETED)
        waits = [retry.wait for retry in station.announced(events.ChunkRetried)]
    assert job.attempts == 1
    assert [2 <= waits[0] <= 2.6, 4 <= waits[1] <= 4.6, len(waits)] == [True, True, 2]


@pytest.mark.parametrize("action", ["cut", "lose_answer"])
def test_lost_connection_in_a_middle_chunk_is_retried(
    receiver: Receiver, open_station: OpenStation, action: str
) -> None:
    """A connection that ends in the middle of a chunk, or before its answer, costs one retry at most."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action=action, after_bytes=300_000))  # type: ignore[arg-type]
    with open_station() as station:
        job = station.drop(size=4 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        station.ends(job, Status.COMPLETED)
        assert len(station.announced(events.ChunkRetried)) <= 1  # none when it was a kept connection
    assert [r.chunk_index for r in receiver.requests].count(1) == 2
    assert [batch.sha256 for batch in receiver.batches] == [before]


def test_refused_file_is_filed_with_the_servers_words_and_the_next_goes_on(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A 422 fails that file alone: its message is in `.error.txt`, the next file is delivered."""
    receiver.add_fault(
        Fault(match="upload", filename="bad.zip", action="status", status=422, message="Task 9 is closed")
    )
    with open_station(start=False) as station:
        bad, good = station.drop("bad.zip"), station.drop("good.zip")
        station.worker.start()
        ended = station.ends(bad, Status.ERROR)
        station.ends(good, Status.COMPLETED)
        text = (station.folder / "failed" / "bad.zip.error.txt").read_text()
    assert ended.problem is not None
    assert "Task 9 is closed" in ended.problem.summary
    assert "Task 9 is closed" in text
    assert f"Id: {bad.id}" in text
    assert [batch.filename for batch in receiver.batches] == ["good.zip"]


def test_forgotten_upload_starts_again_at_chunk_0(receiver: Receiver, open_station: OpenStation) -> None:
    """A 410 for the upload_id makes a new session; what arrives is whole and one batch."""
    receiver.add_fault(Fault(match="chunk", chunk_index=3, action="forget"))
    with open_station() as station:
        job = station.drop(size=6 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        station.ends(job, Status.COMPLETED)
        assert len(station.announced(events.UploadRestarted)) == 1
    assert [batch.sha256 for batch in receiver.batches] == [before]


def test_upload_forgotten_three_times_fails_the_file(receiver: Receiver, open_station: OpenStation) -> None:
    """A server that forgets every session gets two new ones, then the file is failed, not tried for ever."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="forget", times=-1))
    with open_station() as station:
        job = station.ends(station.drop(size=4 * MIB), Status.ERROR)
    assert job.problem is not None
    assert job.problem.code == "upload_forgotten"
    assert sum(r.chunk_index == 0 for r in receiver.requests) == 3


def test_too_large_request_is_sent_in_smaller_chunks(receiver: Receiver, open_station: OpenStation) -> None:
    """A 413 halves the chunk size and starts again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=0, action="status", status=413, html="<h1>413</h1>"))
    with open_station(upload={"chunk_size": 4 * MIB}) as station:
        job = station.drop(size=9 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        job = station.ends(job, Status.COMPLETED)
    assert job.parts[0].chunk_size == 2 * MIB
    assert receiver.batches[0].sha256 == before
    # a key promises the same bytes: a server that heeds it would give the smaller chunk the old answer
    keys = [r.idempotency_key for r in receiver.requests if r.kind == "chunk"]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("size", [3_000, 4 * MIB], ids=["direct", "chunked"])
def test_lost_last_answer_never_makes_a_second_batch(
    receiver: Receiver, open_station: OpenStation, size: int
) -> None:
    """The answer that names the batch is lost: the file is failed for review, and sent no second time."""
    last = {} if size < MIB else {"chunk_index": 4}
    match = "upload" if size < MIB else "chunk"
    receiver.add_fault(Fault(match=match, action="lose_answer", times=-1, **last))  # type: ignore[arg-type]
    with open_station() as station:
        job = station.ends(station.drop(size=size), Status.ERROR)
        assert "may exist" in (station.folder / "failed" / "scan.zip.error.txt").read_text()
    assert job.problem is not None
    assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1


def test_restart_in_mid_upload_resumes_at_the_missing_chunks(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """After a stop no acknowledged chunk is sent again; the server holds one whole batch."""
    receiver.add_fault(Fault(match="chunk", chunk_index=6, action="delay", seconds=20))
    with open_station() as station:
        job = station.drop(size=9 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        until(lambda: len(station.announced(events.ChunkAcknowledged)) == 8)
    acknowledged = {e.chunk for e in station.announced(events.ChunkAcknowledged)}
    assert acknowledged == {0, 1, 2, 3, 4, 5, 7, 8}
    first_run = len(receiver.requests)
    with open_station() as station:
        assert station.ends(job, Status.COMPLETED).attempts == 1
    resent = {r.chunk_index for r in receiver.requests[first_run:] if r.kind == "chunk"}
    assert resent == {6, 9}
    assert [batch.sha256 for batch in receiver.batches] == [before]


def test_small_edges_stay_as_they_were_when_the_upload_resumes(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """First and last chunk small; after a restart under another setting the session's own sizes go on."""
    receiver.add_fault(Fault(match="chunk", chunk_index=3, action="delay", seconds=60))
    with open_station(upload={"edge_chunk_size": 64 * 1024}) as station:
        job = station.drop(size=4 * MIB)
        digest = sha256(station.folder / "drop" / "scan.zip")
        until(lambda: len(station.announced(events.ChunkAcknowledged)) == 4)
    with open_station(upload={"edge_chunk_size": 512 * 1024}) as station:
        station.ends(job, Status.COMPLETED)
    [batch] = receiver.batches
    assert batch.sha256 == digest
    taken = {r.chunk_index: r.body_bytes for r in receiver.requests if r.status == 200}
    assert len(taken) == 6
    assert taken[0] < 70_000
    assert taken[5] < 70_000
    assert min(taken[index] for index in range(1, 5)) > 900_000


def test_crash_after_the_last_bytes_went_out_is_an_unknown_outcome(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A queue that says 'the final request was going out' is reviewed by people, not sent again."""
    with open_station(start=False) as station:
        job = station.drop()
        station.store.claim(station.worker._row.id)
        station.worker._tools.road.ledger.final_goes_out(job.parts[0])
        station.worker.start()
        ended = station.ends(job, Status.ERROR)
    assert ended.problem is not None
    assert ended.problem.code == "outcome_unknown"
    assert receiver.requests == []


def test_outage_holds_the_queue_and_heals(receiver: Receiver, open_station: OpenStation) -> None:
    """With the server away nothing fails: the job waits, uncounted, and goes out when it is back."""
    receiver.stop()
    with open_station() as station:
        job = station.drop()
        station.await_event(events.QueueHeld)
        waiting = station.job(job)
        assert (waiting.status, waiting.attempts) == (Status.PENDING, 0)
        receiver.start()
        assert station.ends(job, Status.COMPLETED).attempts == 1
        assert station.announced(events.QueueReleased)
        assert not (station.folder / "failed").exists()


def test_rejected_token_holds_the_queue_until_the_file_changes(
    tmp_path: Path, open_station: OpenStation
) -> None:
    """A 401 that a fresh reading of token_file can't mend holds the queue; a new token releases it."""
    token_file = tmp_path / "token"
    token_file.write_text("wrong-token\n")
    with open_station(server={"token": None, "token_file": token_file}) as station:
        job = station.drop()
        assert station.await_event(events.QueueHeld).code == "token_rejected"
        token_file.write_text("right-token\n")
        station.ends(job, Status.COMPLETED)
        assert not any("wrong-token" in str(event) for event in station.events)


def test_changed_file_is_not_finished_and_goes_back(receiver: Receiver, open_station: OpenStation) -> None:
    """A source that changes during the upload makes no batch; its job is withdrawn for intake to retake."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=1.0))
    with open_station() as station:
        job = station.drop(size=8 * MIB)
        until(lambda: any(r.chunk_index == 0 for r in receiver.requests))
        with (station.folder / "drop" / "scan.zip").open("ab") as file:
            file.write(b"more")
        station.await_event(events.SourceChanged)
        until(lambda: os.fsencode(station.folder / "drop" / "scan.zip") not in station.store.open_paths())
        with pytest.raises(KeyError):
            station.job(job)
    assert receiver.batches == []
    assert (station.folder / "drop" / "scan.zip").exists()


def test_removed_file_ends_as_aborted(receiver: Receiver, open_station: OpenStation) -> None:
    """A file taken away while it waits ends as aborted and says so."""
    with open_station(start=False) as station:
        job = station.drop()
        (station.folder / "drop" / "scan.zip").unlink()
        station.worker.start()
        ended = station.ends(job, Status.ABORTED)
    assert ended.problem is not None
    assert ended.problem.code == "file_gone"
    assert receiver.requests == []


def test_processing_is_started_once_and_waits_while_the_server_is_busy(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """The batch is started after the busy queue is free; meanwhile the job shows as processing."""
    receiver.set_busy(True)
    paths = {
        "status_path": "/processing/status",
        "busy_field": "queue.busy",
        "start_path": "/processing/{batch_id}/start",
        "poll_seconds": 0.1,
    }
    with open_station(processing=paths) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
        assert station.job(job).status is Status.PROCESSING
        receiver.set_busy(False)
        station.ends(job, Status.COMPLETED)
    assert [batch.started for batch in receiver.batches] == [True]


def test_stop_ends_an_upload_that_is_blocked_in_an_answer(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A worker that waits for a middle chunk's answer stops at once; leaving the station checks it."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=30))
    with open_station() as station:
        job = station.drop(size=4 * MIB)
        until(lambda: len(station.announced(events.ChunkAcknowledged)) == 3)
        station.worker.stop()
        assert station.worker.join(2)
        assert station.job(job).status is Status.PENDING
