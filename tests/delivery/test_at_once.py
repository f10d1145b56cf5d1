"""A cancel and a stop are heeded within a second, whatever the daemon waits for just then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.delivery import watcher
from omrwatchd.model import Job, Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import GATE, OpenStation, Station, within
from tests.delivery.test_last_answer import FINAL, LOOKUP
from tests.waiting import until

HOUR = 3600


@dataclass
class Wait:
    """How the daemon is brought to wait, and how it is seen that it does."""

    reached: Callable[[Station, Receiver, Job], object]
    faults: tuple[Fault, ...] = ()
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    busy: bool = False
    sheets: int = 3


def asked(kind: str) -> Callable[[Station, Receiver, Job], object]:
    return lambda _station, receiver, _job: any(request.kind == kind for request in receiver.requests)


def announced(kind: type[events.Event]) -> Callable[[Station, Receiver, Job], object]:
    return lambda station, _receiver, _job: station.announced(kind)


def in_state(state: WorkerState) -> Callable[[Station, Receiver, Job], object]:
    return lambda station, _receiver, _job: station.tools_row().state is state


WAITS = {
    "a pause that the server asked for": Wait(
        announced(events.ServerSlowedDown),
        (Fault(match="chunk", chunk_index=2, action="status", status=429, retry_after=HOUR),),
    ),
    "the next try of a chunk": Wait(
        announced(events.ChunkRetried),
        (Fault(match="chunk", chunk_index=2, action="status", status=503, times=-1),),
        {"upload": {"attempts": 10}},
    ),
    "the rate": Wait(
        lambda station, _receiver, job: station.job(job).parts[0].bytes_sent > 0,
        sections={"upload": {"max_rate": 10_000}},
    ),
    "a look-up": Wait(
        asked("lookup"),
        (
            Fault(match="chunk", chunk_index=FINAL, action="lose_answer"),
            Fault(match="lookup", action="delay", seconds=60),
        ),
        {"server": LOOKUP},
    ),
    "the end of an outage": Wait(
        in_state(WorkerState.HELD), (Fault(match="chunk", action="status", status=530, times=-1),)
    ),
    "a busy server": Wait(announced(events.ProcessingBusy), sections={"processing": GATE}, busy=True),
    "the cooldown": Wait(
        in_state(WorkerState.COOLDOWN),
        sections={"split": {"max_sheets": 3}, "queue": {"cooldown_seconds": HOUR}},
        sheets=6,
    ),
}


@pytest.mark.parametrize("end", ["cancel", "stop"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_while_it_waits_for(receiver: Receiver, open_station: OpenStation, wait: Wait, end: str) -> None:
    """A cancel ends the job; a stop leaves it for the next start, and never in failed/."""
    for fault in wait.faults:
        receiver.add_fault(fault)
    receiver.set_busy(wait.busy)
    with open_station(**wait.sections) as station:
        job = station.drop(size=3 * MIB, sheets=wait.sheets)
        until(lambda: wait.reached(station, receiver, job), what="the wait")
        if end == "stop":
            with within(1.0):
                station.worker.stop()
                assert station.worker.join(1.0)
            assert station.job(job).status not in (Status.ERROR, Status.ABORTED, Status.COMPLETED)
            assert not (station.folder / "failed").exists()
            return
        with station.operator() as control, within(1.0):
            control.cancel(job.id)
            until(lambda: station.job(job).status is Status.ABORTED, what="the cancel")
        station.ends(job, Status.ABORTED)
    assert (station.folder / "failed" / "scan.zip").exists()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(match="upload", action="status", status=429, retry_after=HOUR),
        Fault(match="upload", action="status", status=503, times=-1),
    ],
    ids=["a pause", "the next try"],
)
def test_stop_when_the_last_answer_was_a_refusal(
    receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The file went out whole and was refused for now: no answer is owed that a stop would wait for."""
    monkeypatch.setattr(watcher, "LAST_ANSWER_GRACE_SECONDS", 600.0)
    receiver.add_fault(fault)
    with open_station(upload={"attempts": 10}) as station:
        job = station.drop()
        until(lambda: station.announced(events.ServerSlowedDown) or station.announced(events.ChunkRetried))
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)
        assert not station.job(job).in_doubt
    assert not receiver.batches


def test_stop_while_it_is_paused(receiver: Receiver, open_station: OpenStation) -> None:
    """The file stays where it is, and waits."""
    with open_station(start=False) as station:
        job = station.drop()
        with station.operator() as control:
            control.pause(True)
        station.worker.start()
        until(lambda: station.tools_row().state is WorkerState.PAUSED)
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)
        assert station.job(job).status is Status.PENDING
    assert not receiver.batches


@pytest.mark.parametrize("then", ["paused", "held"])
def test_cancel_that_the_end_of_an_upload_overtook(
    receiver: Receiver, open_station: OpenStation, then: str
) -> None:
    """It was said while the file was under way and came back to the queue: it is heeded without a turn."""
    with open_station(start=False) as station, station.operator() as control:
        job, other = station.drop(), station.drop("other.zip", sheets=4)
        station.store.claim(station.worker._row.id)
        control.cancel(job.id)
        if then == "paused":
            control.pause(True)
            station.worker.start()
        else:
            station.store.give_back(station.job(job), attempted=False)
            receiver.add_fault(Fault(match="upload", action="status", status=530, times=-1))
            control.prioritise(other.id)
            station.worker.start()
            until(lambda: station.tools_row().state is WorkerState.HELD)
        until(lambda: station.job(job).status is Status.ABORTED, 1.0, what="the cancel")
        station.ends(job, Status.ABORTED)
    assert not receiver.batches


def test_stop_while_a_delivered_file_can_not_be_filed(receiver: Receiver, open_station: OpenStation) -> None:
    """It is delivered, and filed after the next start."""
    with open_station(start=False) as station:
        (station.folder / "done").write_text("in the way")
        job = station.drop()
        station.worker.start()
        station.await_event(events.FilingDelayed)
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)
        assert station.job(job).delivered_at is not None
        assert station.job(job).filed_at is None
    assert len(receiver.batches) == 1
