"""Cancel, stop, resume: heeded within a second in every state."""

from __future__ import annotations

import pytest

from omrwatchd.errors import Problem
from omrwatchd.model import Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from tests.delivery.conftest import OpenStation, within
from tests.waiting import until


def test_resume_cuts_the_cooldown_short(receiver: Receiver, open_station: OpenStation) -> None:
    """An hour of cooldown is shown; `resume` ends it at once."""
    with open_station(queue={"cooldown_seconds": 3600}) as station:
        first = station.ends(station.drop("a.zip"), Status.COMPLETED)
        second = station.drop("b.zip")
        until(lambda: station.tools_row().state == WorkerState.COOLDOWN, what="the cooldown")
        assert station.job(second).status is Status.PENDING
        with station.operator() as control:
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
            with station.operator() as control:
                control.pause(False)
        station.ends(job, Status.COMPLETED)


def test_cancel_during_the_cooldown_between_parts(receiver: Receiver, open_station: OpenStation) -> None:
    """A split file is cancelled between two of its parts; what was delivered is named."""
    with open_station(split={"max_sheets": 3}, queue={"cooldown_seconds": 3600}) as station:
        job = station.drop(sheets=8)
        until(lambda: station.tools_row().state == WorkerState.COOLDOWN, what="the cooldown")
        with station.operator() as control, within(1.0):
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
        with station.operator() as control:
            with pytest.raises(Problem) as refused:
                control.retry(job.id)
            assert refused.value.code == "needs_force"
            assert "--force" in refused.value.advice
            control.retry(job.id, force=True)
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 2
