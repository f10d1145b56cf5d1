"""Rows of the fault table that no other test meets end to end, against a server that misbehaves."""

from __future__ import annotations

import pytest

from omrwatchd import events
from omrwatchd.model import Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation
from tests.waiting import until
from tests.zips import sha256


def test_answer_that_does_not_come_costs_that_chunk_one_try(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """After server.read_timeout the chunk is sent again, and no other."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=60))
    with open_station(server={"read_timeout": 2}) as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
        assert [e.chunk for e in station.announced(events.ChunkRetried)] == [1]
    assert job.attempts == 1
    sent = [r.chunk_index for r in receiver.requests if r.kind == "chunk"]
    assert sorted(index for index in sent if index is not None) == [0, 1, 1, 2, 3]


def test_server_that_takes_no_byte_and_answers_no_probe_is_an_outage(
    swallowing_server: str, receiver: Receiver, open_station: OpenStation
) -> None:
    """The chunk's tries end by upload.stall_seconds; the attempt does not count, nothing is failed."""
    server = {"base_url": swallowing_server, "read_timeout": 1}
    upload = {"chunk_size": 16 * MIB, "stall_seconds": 1, "attempts": 2}
    with open_station(server=server, upload=upload) as station:
        job = station.drop(size=20 * MIB)
        station.await_event(events.QueueHeld)
        until(lambda: station.job(job).status is Status.PENDING)
        assert [e.chunk for e in station.announced(events.ChunkRetried)] == [0]
        assert (station.job(job).attempts, station.job(job).failures) == (0, 0)
        assert not (station.folder / "failed").exists()
    with open_station(upload=upload | {"stall_seconds": 60}) as station:
        assert station.ends(job, Status.COMPLETED).attempts == 1
    assert len(receiver.batches) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_upload_that_the_server_does_not_know_starts_again_at_chunk_0(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """With an upload_id in the request, 404 and 410 are about the session, not about the address."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=status, message="unknown"))
    with open_station() as station:
        job = station.drop(size=3 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        job = station.ends(job, Status.COMPLETED)
        assert len(station.announced(events.UploadRestarted)) == 1
        assert not station.announced(events.QueueHeld)
    assert [r.chunk_index for r in receiver.requests].count(0) == 2
    assert [batch.sha256 for batch in receiver.batches] == [before]
    assert job.attempts == 1


@pytest.mark.parametrize("status", [400, 403, 500])
def test_no_other_status_costs_the_acknowledged_chunks(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """A proxy's page in the middle of an upload makes no new session, whatever its status."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=status))
    with open_station() as station:
        station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
        assert not station.announced(events.UploadRestarted)
    taken = [r.chunk_index for r in receiver.requests if r.kind == "chunk" and r.status == 200]
    assert sorted(index for index in taken if index is not None) == [0, 1, 2, 3]


def test_direct_upload_that_is_too_large_goes_in_chunks(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A 413 to the one request: the same file in chunks, and a restart goes on with them."""
    receiver.add_fault(Fault(match="upload", action="status", status=413, html="<h1>413</h1>", times=-1))
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=60))
    upload = {"chunk_size": 2 * MIB, "direct_limit": 8 * MIB}
    with open_station(upload=upload) as station:
        job = station.drop(size=7 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        until(lambda: any(e.chunk == 2 for e in station.announced(events.ChunkAcknowledged)))
    receiver.clear_faults()
    with open_station(upload=upload) as station:
        job = station.ends(job, Status.COMPLETED)
    assert job.parts[0].chunk_size == 2 * MIB
    assert [r.chunk_index for r in receiver.requests].count(0) == 1
    assert sum(r.kind == "upload" for r in receiver.requests) == 1
    assert [batch.sha256 for batch in receiver.batches] == [before]


@pytest.mark.parametrize(
    ("size", "status"),
    [(3_000, status) for status in (301, 302, 307, 308, 400, 403, 404, 405, 451)]
    + [(3 * MIB, status) for status in (302, 403, 404)],
)
def test_page_of_another_server_holds_the_queue_and_fails_nothing(
    receiver: Receiver, open_station: OpenStation, size: int, status: int
) -> None:
    """A redirect, a wrong path, a filter's page: held with the advice, and it heals."""
    match = "upload" if size < MIB else "chunk"
    receiver.add_fault(Fault(match=match, action="status", status=status))  # type: ignore[arg-type]
    with open_station() as station:
        job = station.ends(station.drop(size=size), Status.COMPLETED)
        [held] = station.announced(events.QueueHeld)
        assert held.code == "misconfigured"
        assert not (station.folder / "failed").exists()
    assert (job.attempts, len(receiver.batches)) == (1, 1)


@pytest.mark.parametrize(
    ("size", "status"),
    [(3_000, status) for status in (400, 403, 409, 415, 422)] + [(3 * MIB, 409)],
)
def test_servers_own_refusal_fails_that_file_at_once(
    receiver: Receiver, open_station: OpenStation, size: int, status: int
) -> None:
    """In its own words, after one request; nothing is tried again and the queue goes on."""
    match = "upload" if size < MIB else "chunk"
    receiver.add_fault(
        Fault(match=match, filename="bad.zip", action="status", status=status, message="Task 9 is closed")  # type: ignore[arg-type]
    )
    with open_station(start=False) as station:
        bad, good = station.drop("bad.zip", size=size), station.drop("good.zip")
        station.worker.start()
        bad = station.ends(bad, Status.ERROR)
        station.ends(good, Status.COMPLETED)
        assert not station.announced(events.QueueHeld)
        assert "Task 9 is closed" in (station.folder / "failed" / "bad.zip.error.txt").read_text()
    assert sum(r.filename == "bad.zip" for r in receiver.requests) == 1


def test_server_that_takes_not_even_a_mebibyte_fails_the_file(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """The chunk size is halved down to 1 MiB and no further; the text says where the limit is set."""
    receiver.add_fault(Fault(match="chunk", action="status", status=413, html="<h1>413</h1>", times=-1))
    with open_station(upload={"chunk_size": 4 * MIB}) as station:
        job = station.ends(station.drop(size=9 * MIB), Status.ERROR)
        assert "upload.chunk_size" in (station.folder / "failed" / "scan.zip.error.txt").read_text()
    assert job.problem is not None
    assert job.problem.code == "too_large"
    assert sum(r.kind == "chunk" for r in receiver.requests) == 3
    assert receiver.batches == []
