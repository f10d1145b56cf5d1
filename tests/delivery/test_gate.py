"""The processing gate: asked after each batch, waited for in sight, and never a delivered file's fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.delivery.processing import is_busy
from omrwatchd.model import Status, WorkerState
from omrwatchd.queue.process import LEASE_SECONDS
from omrwatchd.receiver import Fault, Receiver
from tests.delivery.conftest import GATE, OpenStation, within
from tests.waiting import until

STATUS = {name: GATE[name] for name in ("status_path", "busy_field")}
START = {"start_path": GATE["start_path"]}
BOTH = GATE | {"poll_seconds": 1}


def asked(receiver: Receiver, kind: str) -> int:
    return len([request for request in receiver.requests if request.kind == kind])


@pytest.mark.parametrize(
    ("document", "field", "busy"),
    [
        ({"busy": True}, "busy", True),
        ({"busy": False}, "busy", False),
        ({"queue": {"jobs": {"waiting": 3}}}, "queue.jobs.waiting", True),
        ({"queue": {"waiting": 0}}, "queue.waiting", False),
        ({"load": 0.5}, "load", True),
        ({"load": -1}, "load", False),
        ({"busy": None}, "busy", None),
        ({"busy": "no"}, "busy", None),
        ({"busy": []}, "busy", None),
        ({"queue": 3}, "queue.waiting", None),
        ({}, "busy", None),
        (None, "busy", None),
    ],
)
def test_what_counts_as_busy(document: dict[str, Any] | None, field: str, busy: bool | None) -> None:
    """A boolean, or a number above 0, at a dotted path; anything else is no answer."""
    assert is_busy(document, field) is busy


@pytest.mark.parametrize(
    ("paths", "polls", "starts"), [({}, 0, 0), (STATUS, 1, 0), (START, 0, 1), (BOTH, 1, 1)]
)
def test_each_call_is_off_without_its_path(
    receiver: Receiver, open_station: OpenStation, paths: dict[str, Any], polls: int, starts: int
) -> None:
    """What is not configured is not asked."""
    with open_station(processing=paths) as station:
        station.ends(station.drop(), Status.COMPLETED)
    assert (asked(receiver, "status"), asked(receiver, "start")) == (polls, starts)


def test_number_of_waiting_batches_is_busy_until_it_is_none(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """Three more batches are worked off before ours is started."""
    receiver.busy_polls = 3
    with open_station(processing=BOTH | {"busy_field": "queue.waiting"}) as station:
        station.ends(station.drop(), Status.COMPLETED)
    assert (asked(receiver, "status"), asked(receiver, "start")) == (4, 1)


def test_outage_at_the_gate_holds_the_queue_and_fails_nothing(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """The server goes away after the batch was made: held with its reason, and gone on by itself."""
    receiver.set_busy(True)
    with open_station(processing=BOTH) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
        receiver.stop()
        assert station.await_event(events.QueueHeld).code == "server_unreachable"
        until(lambda: station.tools_row().state is WorkerState.HELD, what="held in `status`")
        assert "goes on by itself" in station.tools_row().reason
        assert station.job(job).status is Status.PROCESSING
        receiver.set_busy(False)
        receiver.start()
        job = station.ends(job, Status.COMPLETED)
        assert len(station.announced(events.QueueReleased)) == 1
        assert (job.failures, job.problem) == (0, None)
    assert len(receiver.batches) == 1
    assert asked(receiver, "start") == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"busy_field": "queue.bussy"}, "has no boolean or number at 'queue.bussy'"),
        ({"status_path": "/nowhere"}, "HTTP 404 to processing.status_path"),
        ({"start_path": "/nowhere/{batch_id}"}, "HTTP 404 to processing.start_path"),
    ],
)
def test_wrong_setting_holds_the_queue_and_is_named(
    receiver: Receiver, open_station: OpenStation, wrong: dict[str, str], named: str
) -> None:
    """Held, said once, with what to do; put right and restarted, it is started once."""
    with open_station(processing=BOTH | wrong) as station:
        job = station.drop()
        held = station.await_event(events.QueueHeld)
        assert held.code == "misconfigured"
        assert named in held.reason
        reason = until(lambda: station.tools_row().reason)
        assert named in reason
        assert "Correct processing." in reason
        until(lambda: station.hold_age() > 12, what="a second question, after 5 s of the daemon's clock")
        assert len(station.announced(events.QueueHeld)) == 1
        assert station.job(job).status is Status.PROCESSING
    with open_station(processing=BOTH) as station:
        station.ends(job, Status.COMPLETED)
    assert [batch.started for batch in receiver.batches] == [True]


def test_server_errors_and_pauses_are_waited_out(receiver: Receiver, open_station: OpenStation) -> None:
    """503 holds, 429 is a wish to wait, 401 asks for a token; then it goes on."""
    for kind, status in (("status", 503), ("status", 429), ("start", 502), ("start", 401)):
        receiver.add_fault(Fault(match=kind, action="status", status=status))  # type: ignore[arg-type]
    with open_station(processing=BOTH) as station:
        job = station.ends(station.drop(), Status.COMPLETED)
        codes = [event.code for event in station.announced(events.QueueHeld)]
        assert codes == ["server_error", "server_error", "token_rejected"]
        assert [event.state for event in station.announced(events.ProcessingBusy)] == [
            "the server asks for a pause"
        ]
    assert job.failures == 0


def test_resume_asks_at_once(receiver: Receiver, open_station: OpenStation) -> None:
    """An operator who knows that the queue is free need not wait for the next question."""
    receiver.set_busy(True)
    with open_station(processing=GATE) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
        receiver.set_busy(False)
        with station.operator() as control:
            control.pause(False)
        station.ends(job, Status.COMPLETED, 3.0)


def test_stop_during_the_start_is_no_second_start(receiver: Receiver, open_station: OpenStation) -> None:
    """The server takes its time to answer; the stop waits for it, and the next daemon does not ask again."""
    receiver.add_fault(Fault(match="start", action="delay", seconds=1))
    with open_station(processing=BOTH) as station:
        job = station.drop()
        until(lambda: asked(receiver, "status") == 1)
        until(lambda: station.job(job).status is Status.PROCESSING)
        until(lambda: asked(receiver, "start") == 1, what="the start under way")
    with open_station(processing=BOTH) as station:
        station.ends(job, Status.COMPLETED)
    assert asked(receiver, "start") == 1
    assert [batch.started for batch in receiver.batches] == [True]


def test_lease_is_kept_while_the_server_takes_its_time_to_start(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """In a container the heartbeat is all that keeps a second daemon away, also during a long answer."""
    receiver.add_fault(Fault(match="start", action="delay", seconds=2))
    with open_station(processing=BOTH) as station:
        job = station.drop()
        until(lambda: asked(receiver, "start") == 1, what="the start under way")
        row = station.worker._row
        row._process = replace(row._process, host="box pid:[4026532000]")
        row._renewed_at -= LEASE_SECONDS
        until(lambda: SystemClock().now() - row._renewed_at < LEASE_SECONDS / 3, 1.0, "a heartbeat")
        assert station.job(job).status is Status.PROCESSING
        station.ends(job, Status.COMPLETED)


def test_cooldown_begins_when_the_batch_is_through(receiver: Receiver, open_station: OpenStation) -> None:
    """A long wait at the gate is no pause: the server draws breath after it has begun to process."""
    receiver.set_busy(True)
    with open_station(processing=BOTH, queue={"cooldown_seconds": 3600}) as station:
        first = station.drop("a.zip")
        station.drop("b.zip")
        station.await_event(events.ProcessingBusy)
        assert not station.announced(events.CooldownStarted)
        receiver.set_busy(False)
        station.ends(first, Status.COMPLETED)
        until(lambda: station.tools_row().state is WorkerState.COOLDOWN, what="the cooldown")
        kinds = [type(event) for event in station.events]
        assert kinds.index(events.ProcessingStarted) < kinds.index(events.CooldownStarted)


def test_every_part_passes_the_gate(receiver: Receiver, open_station: OpenStation) -> None:
    """Three parts of one file: each is asked for, started, and followed by a cooldown."""
    with open_station(processing=BOTH, split={"max_sheets": 3}) as station:
        station.ends(station.drop(sheets=8), Status.COMPLETED)
        assert len(station.announced(events.CooldownStarted)) == 3
        order = [request.kind for request in receiver.requests if request.kind != "health"]
    assert order == ["upload", "status", "start"] * 3
    assert [batch.started for batch in receiver.batches] == [True] * 3


def test_cancel_at_the_gate_leaves_the_batch_and_says_so(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A file that waits for a busy server can be cancelled; the text beside it names its batch."""
    receiver.set_busy(True)
    with open_station(processing=GATE) as station:
        job = station.drop()
        station.await_event(events.ProcessingBusy)
        with station.operator() as control, within(1.0):
            control.cancel(job.id)
            job = station.ends(job, Status.ABORTED, 1.0)
        text = (station.folder / "failed" / "scan.zip.error.txt").read_text()
        assert receiver.batches[0].batch_id in text
        receiver.set_busy(False)
        with station.operator() as control:
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
