"""The one worker: takes the next job, delivers its parts, files it, and draws breath."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.delivery.closing import Closing
from omrwatchd.delivery.faults import Fault, Kind
from omrwatchd.delivery.halt import Halt, Halted, Why
from omrwatchd.delivery.hold import Backoff, Hold, Probe
from omrwatchd.delivery.opening import JobFile, JobFolder, opened
from omrwatchd.delivery.processing import Gate, ProcessingGate
from omrwatchd.delivery.retry import Failed
from omrwatchd.delivery.upload import PartUpload, Road
from omrwatchd.delivery.watcher import UploadWatcher
from omrwatchd.errors import Problem
from omrwatchd.lifecycle import Died, Service
from omrwatchd.model import Job, Part, Status, WorkerState
from omrwatchd.queue.store import Store
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings
from omrwatchd.sheets.pictures import PictureSet
from omrwatchd.sheets.source import Source, SourceChanged

CONTROL_SECONDS = 1.0
"""How soon a word of an operator, which is a change of a row, is noticed."""
HEARTBEAT_SECONDS = 20.0
FAILURES_THAT_HOLD = 3
"""Files in a row: the fourth waits until somebody had a chance to look."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the worker works with."""

    settings: Settings
    store: Store
    row: WorkerRow
    road: Road
    gate: ProcessingGate
    probe: Probe
    closing: Closing
    clock: Clock


class Worker(Service):
    """Takes jobs out of the queue, one at a time."""

    def __init__(self, tools: Tools, on_death: Died) -> None:
        super().__init__("worker", on_death)
        self._tools = tools
        self._store = tools.store
        self._row = tools.row
        self._clock = tools.clock
        self._announce = tools.road.announce
        self._hold: Hold | None = None
        self._probe_at = 0.0
        self._backoff = Backoff()
        self._shown: tuple[WorkerState, str | None, int | None] | None = None
        self._beat_at = 0.0
        self._uploading = False

    def stop(self) -> None:
        """An upload's own ticks end it with care; a probe or a question at the gate ends at once."""
        super().stop()
        if not self._uploading:
            self._tools.road.transport.wake()

    def run(self) -> None:
        self._store.release_abandoned()
        while not self.stopping:
            self._tools.closing.settle_accounts()
            if not self._may_send():
                self._rest()
            elif (job := self._store.claim(self._row.id)) is not None:
                self._deliver(job)
            else:
                self._show(WorkerState.IDLE)
                self._rest()
        self._show(WorkerState.STOPPED)

    # before anything is sent

    def _may_send(self) -> bool:
        """Not while held, paused or cooling down; says so where people look."""
        row = self._row.row()
        if row.release:
            self._row.take_release()
            self._release()
        if self._hold is not None and not self._released():
            self._show(WorkerState.HELD, self._hold.problem.summary)
            return False
        if row.paused:
            self._show(WorkerState.PAUSED)
            return False
        if self._cooling(row.cooldown_until):
            self._show(WorkerState.COOLDOWN)
            return False
        return True

    def _cooling(self, until: float | None) -> bool:
        if until is None:
            return False
        left = until - self._clock.now()
        if 0 < left <= self._tools.settings.queue.cooldown_seconds:  # a longer one: the clock was set back
            return True
        self._row.cool_down(None)
        return False

    def _begin_cooldown(self) -> None:
        seconds = self._tools.settings.queue.cooldown_seconds
        self._row.cool_down(self._clock.now() + seconds)
        self._announce(events.CooldownStarted(seconds))

    def _rest(self, seconds: float = CONTROL_SECONDS) -> None:
        """Wait until woken; not longer than an operator, a cooldown or a probe would want."""
        seconds = min(seconds, CONTROL_SECONDS)
        until = self._row.cooldown_until
        if until is not None:
            seconds = min(seconds, max(0.0, until - self._clock.now()))
        if self._clock.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat_at = self._clock.monotonic()
            self._row.beat()
        self._clock.wait(self.bell, seconds)
        if not self.stopping:
            self.bell.clear()

    def _show(self, state: WorkerState, reason: str | None = None, job_id: int | None = None) -> None:
        if self._shown != (state, reason, job_id):
            self._shown = (state, reason, job_id)
            self._row.show(state, reason=reason, job_id=job_id)

    # holds

    def _begin_hold(self, fault: Fault) -> None:
        self._hold = Hold(fault.kind, fault.problem, self._clock.now())
        self._probe_at = self._clock.monotonic() + self._backoff.next()
        self._announce(events.QueueHeld(fault.problem.code, fault.problem.summary))

    def _released(self) -> bool:
        assert self._hold is not None
        if self._clock.monotonic() < self._probe_at:
            return False
        if not self._tools.probe.answers(self._hold.kind):
            self._probe_at = self._clock.monotonic() + self._backoff.next()
            return False
        self._release()
        return True

    def _release(self) -> None:
        if self._hold is not None:
            self._announce(events.QueueReleased(round(self._clock.now() - self._hold.since, 1)))
            self._hold = None

    # one job

    def _deliver(self, job: Job) -> None:
        """Deliver what is missing of a job, and draw the consequences of whatever ends that."""
        try:
            # what is delivered in full needs only filing: its file may be gone from where it was
            with nullcontext() if job.delivered_at is not None else opened(job) as file:
                for part in job.parts:
                    if part.status is not Status.COMPLETED:
                        job = self._deliver_part(job, part, file)
            self._tools.closing.complete(job)
            self._row.forgive_failures()
        except Failed as failure:
            self._draw_consequence(self._store.job(job.id), failure.fault)
        except Halted as halted:
            self._end_halted(self._store.job(job.id), halted.why)
        except SourceChanged as change:
            self._tools.closing.source_changed(self._store.job(job.id), str(change))
        except FileNotFoundError:
            self._tools.closing.source_gone(self._store.job(job.id))

    def _deliver_part(self, job: Job, part: Part, file: JobFile | JobFolder | None) -> Job:
        """Upload a part and see it through the gate; the job as it is then."""
        if part.batch_id is None:
            assert file is not None
            source = file.source(part)
            self._cool_down()
            if job.status is Status.PROCESSING:  # an earlier part was
                self._store.move(job.id, Status.PROCESSING, Status.UPLOADING)
                job = self._store.job(job.id)
            part = self._upload(job, part, source)
        if job.status is not Status.PROCESSING:
            self._store.move(job.id, job.status, Status.PROCESSING)
        self._pass_gate(job, part)
        self._tools.road.ledger.move(part, Status.COMPLETED)
        return self._store.job(job.id)

    def _upload(self, job: Job, part: Part, source: Source | PictureSet) -> Part:
        self._show(WorkerState.UPLOADING, None, job.id)
        ledger = self._tools.road.ledger
        part = ledger.move(part, Status.UPLOADING)
        halt = Halt(wake=self._tools.road.transport.wake)
        upload = PartUpload(self._tools.road, job, part, source, halt)
        watcher = UploadWatcher(
            job, upload, halt, lambda: self.stopping, self._store, ledger, self._row, self._clock
        )
        began = self._clock.monotonic()
        self._uploading = True
        try:
            batch_id = upload.run(watcher.tick)
        finally:
            self._uploading = False
        part = ledger.batch_created(upload.part, batch_id)
        self._backoff.reset()
        self._begin_cooldown()
        seconds = round(self._clock.monotonic() - began, 3)
        self._announce(events.BatchCreated(job.id, job.name, part.index, batch_id, part.size, seconds))
        return part

    def _pass_gate(self, job: Job, part: Part) -> None:
        """Have the batch processed; wait while the server's OMR queue is busy."""
        gate = self._tools.gate
        if not gate.enabled or part.started_at is not None or part.batch_id is None:
            return
        said: Gate | None = None
        while (state := gate.try_start(part.batch_id)) is not Gate.OPEN:
            if state is not said:
                self._announce(events.ProcessingBusy(job.id, part.batch_id, str(state)))
                said = state
            words = "the server's OMR queue is busy" if state is Gate.BUSY else "the server does not answer"
            self._show(WorkerState.PROCESSING, words, job.id)
            self._wait_at_gate()
        self._tools.road.ledger.processing_started(part)
        self._announce(events.ProcessingStarted(job.id, part.batch_id))

    def _wait_at_gate(self) -> None:
        ask_at = self._clock.monotonic() + self._tools.settings.processing.poll_seconds
        while ask_at > self._clock.monotonic():
            self._rest_within_a_job(ask_at - self._clock.monotonic())

    def _cool_down(self) -> None:
        """Between two parts of a job; between two jobs the cooldown is seen to before a claim."""
        while self._cooling(self._row.cooldown_until):
            self._show(WorkerState.COOLDOWN)
            self._rest_within_a_job(CONTROL_SECONDS)

    def _rest_within_a_job(self, seconds: float) -> None:
        """Raises Halted when the daemon stops."""
        if self.stopping:
            raise Halted(Why.STOP)
        self._rest(seconds)

    # how it may end

    def _draw_consequence(self, job: Job, fault: Fault) -> None:
        self._announce(events.UploadFailed(job.id, job.name, fault.problem.code, fault.problem.summary))
        if fault.kind in (Kind.OUTAGE, Kind.CREDENTIALS, Kind.MISCONFIGURED):
            self._store.give_back(job, attempted=False)
            self._begin_hold(fault)
        elif fault.kind is not Kind.CHUNK:
            self._fail(job, fault.problem)
        elif not self._tools.probe.answers(Kind.OUTAGE):
            self._store.give_back(job, attempted=False)
            self._begin_hold(Fault(Kind.OUTAGE, fault.problem))
        elif job.failures + 1 >= self._tools.settings.queue.max_attempts:
            self._fail(job, _gave_up(fault.problem, job.failures + 1))
        else:
            self._store.give_back(job, attempted=True)
            self._begin_cooldown()

    def _fail(self, job: Job, problem: Problem) -> None:
        """Fail a file; several in a row are hardly all the files' own fault."""
        self._tools.closing.fail(job, problem)
        if (count := self._row.count_failure()) >= FAILURES_THAT_HOLD:
            self._row.forgive_failures()
            self._begin_hold(Fault(Kind.MISCONFIGURED, _too_many_failed(count, problem)))

    def _end_halted(self, job: Job, why: Why) -> None:
        if why is Why.CANCEL:
            self._tools.closing.cancel(job)
            return
        self._store.give_back(job, attempted=False)
        self._announce(events.UploadSuspended(job.id, job.name, str(why)))


def _too_many_failed(count: int, last: Problem) -> Problem:
    return Problem(
        "files_failing",
        f"{count} files failed one after the other, the last because: {last.summary}",
        "Look at failed/ and at the server; delivery goes on by itself after a while.",
    )


def _gave_up(problem: Problem, attempts: int) -> Problem:
    return Problem(
        problem.code,
        f"{problem.summary} {attempts} attempts failed while the server was there.",
        "Look at the server's log for this file; drop the file again to try once more.",
    )
