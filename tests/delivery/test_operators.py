"""Cancel, stop, resume: heeded within a second in every state."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import Status, WorkerState
from omrwatchd.queue.control import Control, opened_control
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation, Station
from tests.waiting import until

GATE = {
    "status_path": "/processing/status",
    "busy_field": "queue.busy",
    "start_path": "/processing/{batch_id}/start",
    "poll_seconds": 3600,
}


@contextlib.contextmanager
def operator(station: Station) -> Iterator[Control]:
    assert station.settings.queue.path is not None
    with opened_control(station.settings.queue.path, SystemClock()) as control:
        yield control


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.fixture
def swallowing_server() -> Iterator[str]:
    """Takes connections and the first bytes, and reads no more: a sender blocks in its send."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        held: list[socket.socket] = []
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    held.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"
        over.set()
        thread.join()
        for connection in held:
            connection.close()


def test_cancel_ends_a_send_that_is_blocked(swallowing_server: str, open_station: OpenStation) -> None:
    """The server takes no byte more; a cancel is over within a second all the same."""
    with open_station(server={"base_url": swallowing_server}, upload={"chunk_size": 16 * MIB}) as station:
        job = station.drop(size=40 * MIB)
        until(lambda: station.job(job).parts[0].bytes_sent > 0, what="first bytes")
        with operator(station) as control, within(1.0):
            control.cancel(job.id)
            until(lambda: station.job(job).status is Status.ABORTED, what="the cancel")


def test_stop_ends_a_send_that_is_blocked(swallowing_server: str, open_station: OpenStation) -> None:
    """As does a stop; the job waits for the next start."""
    with open_station(server={"base_url": swallowing_server}, upload={"chunk_size": 16 * MIB}) as station:
        job = station.drop(size=40 * MIB)
        until(lambda: station.job(job).parts[0].bytes_sent > 0, what="first bytes")
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)
        assert station.job(job).status is Status.PENDING


def test_cancel_at_the_gate_leaves_the_batch_and_says_so(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A file that waits for a busy server can be cancelled; the text beside it names its batch."""
    receiver.set_busy(True)
    with open_station(processing=GATE) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
        with operator(station) as control, within(1.0):
            control.cancel(job.id)
            job = station.ends(job, Status.ABORTED, 1.0)
        text = (station.folder / "failed" / "scan.zip.error.txt").read_text()
        assert receiver.batches[0].batch_id in text
        receiver.set_busy(False)
        with operator(station) as control:
            control.retry(job.id)
        job = station.ends(job, Status.COMPLETED)
        assert (station.folder / "done" / "scan.zip").exists()
    assert [batch.started for batch in receiver.batches] == [True]


def test_restart_at_the_gate_starts_no_second_time(receiver: Receiver, open_station: OpenStation) -> None:
    """A batch that waits at the gate waits on after a restart, and is started once."""
    receiver.set_busy(True)
    with open_station(processing=GATE) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
    receiver.set_busy(False)
    with open_station(processing=GATE) as station:
        station.ends(job, Status.COMPLETED)
    assert len([r for r in receiver.requests if r.kind == "start"]) == 1
    assert len(receiver.batches) == 1


def test_start_that_is_refused_as_busy_is_asked_again(receiver: Receiver, open_station: OpenStation) -> None:
    """409 on start: somebody else was quicker; wait and ask again."""
    receiver.add_fault(Fault(match="start", action="status", status=409, message="busy"))
    with open_station(processing=GATE | {"poll_seconds": 0.5}) as station:
        station.ends(station.drop(), Status.COMPLETED)
    assert [r.status for r in receiver.requests if r.kind == "start"] == [409, 202]


def test_resume_cuts_the_cooldown_short(receiver: Receiver, open_station: OpenStation) -> None:
    """An hour of cooldown is shown; `resume` ends it at once."""
    with open_station(queue={"cooldown_seconds": 3600}) as station:
        first = station.ends(station.drop("a.zip"), Status.COMPLETED)
        second = station.drop("b.zip")
        until(lambda: station.tools_row().state == WorkerState.COOLDOWN, what="the cooldown")
        assert station.job(second).status is Status.PENDING
        with operator(station) as control:
            control.pause(False)
            station.ends(second, Status.COMPLETED, 3.0)
        assert first.batch_ids != station.job(second).batch_ids


def test_resume_cuts_the_cooldown_between_parts_short(receiver: Receiver, open_station: OpenStation) -> None:
    """Also between two batches of one file: each `resume` lets the next one go."""
    with open_station(split={"max_sheets": 3}, queue={"cooldown_seconds": 3600}) as station:
        job = station.drop(sheets=8)
        for made in (1, 2, 3):
            until(lambda made=made: len(receiver.batches) == made, 5, f"batch {made}")
            until(lambda: station.tools_row().state is WorkerState.COOLDOWN, 5, "the cooldown")
            with operator(station) as control:
                control.pause(False)
        station.ends(job, Status.COMPLETED)


def test_cancel_during_the_cooldown_between_parts(receiver: Receiver, open_station: OpenStation) -> None:
    """A split file is cancelled between two of its parts; what was delivered is named."""
    with open_station(split={"max_sheets": 3}, queue={"cooldown_seconds": 3600}) as station:
        job = station.drop(sheets=8)
        until(lambda: station.tools_row().state == WorkerState.COOLDOWN, what="the cooldown")
        with operator(station) as control, within(1.0):
            control.cancel(job.id)
            job = station.ends(job, Status.ABORTED, 1.0)
        text = (station.folder / "failed" / "scan.zip.error.txt").read_text()
    assert [part.status for part in job.parts] == [Status.COMPLETED, Status.ABORTED, Status.ABORTED]
    assert receiver.batches[0].batch_id in text


def test_unknown_outcome_is_sent_again_with_force_alone(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """`retry` of a file that may be on the server already asks for --force, and then delivers it."""
    receiver.add_fault(Fault(match="upload", action="lose_answer"))
    with open_station() as station:
        job = station.ends(station.drop(), Status.ERROR)
        with operator(station) as control:
            with pytest.raises(Problem) as refused:
                control.retry(job.id)
            assert refused.value.code == "needs_force"
            assert "--force" in refused.value.advice
            control.retry(job.id, force=True)
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 2


def test_dead_kept_connection_costs_no_attempt(receiver: Receiver, open_station: OpenStation) -> None:
    """The server closed a kept connection just as a chunk was put on it: sent again at once, uncounted."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="cut"))
    with open_station(upload={"attempts": 1, "concurrency": 1}) as station:
        station.ends(station.drop(size=4 * MIB), Status.COMPLETED)
        assert not station.announced(events.ChunkRetried)
    assert len(receiver.batches) == 1


def test_receiver_down_for_a_minute_costs_nobody_any_work(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """Down in mid-file: no acknowledged chunk is sent again, nothing lies in failed/, attempts uncounted."""
    receiver.add_fault(Fault(match="chunk", chunk_index=5, action="delay", seconds=60))
    with open_station() as station:
        job = station.drop(size=9 * MIB)
        until(lambda: len(station.announced(events.ChunkAcknowledged)) >= 5, what="five chunks")
        receiver.stop()
        station.await_event(events.QueueHeld)
        acknowledged = {event.chunk for event in station.announced(events.ChunkAcknowledged)}
        until(lambda: station.hold_age() >= 60, 10, "a minute of the daemon's clock")
        before = len(receiver.requests)
        receiver.start()
        receiver.clear_faults()
        job = station.ends(job, Status.COMPLETED, 40)
        assert station.announced(events.QueueReleased)
    again = {r.chunk_index for r in receiver.requests[before:] if r.kind == "chunk"}
    assert not again & acknowledged
    assert (job.attempts, job.failures) == (1, 0)
    assert not (tmp_path / "failed").exists() or not list((tmp_path / "failed").iterdir())
    assert len(receiver.batches) == 1
