"""The one worker: takes the next job, has it delivered, files it, and draws breath."""

from __future__ import annotations

import errno
from collections.abc import Callable

from omrwatchd import events
from omrwatchd.delivery.delivering import JobDelivery
from omrwatchd.delivery.desk import Desk, Tools
from omrwatchd.delivery.faults import Fault, Kind
from omrwatchd.delivery.halt import Halted, Why
from omrwatchd.delivery.hold import Backoff, Hold
from omrwatchd.delivery.retry import Failed
from omrwatchd.errors import Problem
from omrwatchd.lifecycle import Died, Service
from omrwatchd.model import Job, WorkerState
from omrwatchd.queue.store import copy_of_unfinished, duplicate
from omrwatchd.sheets.source import SourceChanged

CONTROL_SECONDS = 1.0
"""How soon a word of an operator, which is a change of a row, is noticed."""
LONGEST_REST_SECONDS = 60.0
AWAY_SECONDS = 5.0
"""Between two looks for a drop folder that is away, should intake not be the first to see it again."""
FAILURES_THAT_HOLD = 3
"""Files in a row: the fourth waits until somebody had a chance to look."""


_FOR_GOOD = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
"""Errors that another try, some seconds later, does not mend; others may be a cable's or a server's."""


class _Enough(Exception):
    """There is something better to do than to wait for an answer."""


class Worker(Service):
    """Takes jobs out of the queue, one at a time."""

    def __init__(self, tools: Tools, on_death: Died) -> None:
        super().__init__("worker", on_death)
        self._tools = tools
        self._store = tools.store
        self._row = tools.row
        self._clock = tools.clock
        self._announce = tools.road.announce
        self._changes = tools.store.changes()
        self._hold: Hold | None = None
        self._probe_at = 0.0
        self._backoff = Backoff()
        self._shown: tuple[WorkerState, str | None, int | None] | None = None
        self._awaits_last_answer: Callable[[], bool] | None = None
        self._patient = False
        self._away = tools.away
        self._desk = Desk(
            stopping=lambda: self.stopping,
            asked_to_stop=lambda: self.asked_to_stop and not (self._patient and self.awaits_last_answer),
            sign=self.sign,
            show=self._show,
            rest=self._rest,
            uploading=self._set_uploading,
            delivered=self._begin_anew,
            cool_down=self._begin_cooldown,
        )

    def stop(self, *, patient: bool = False) -> None:
        """An upload's own ticks end it with care; a probe or a question at the gate ends at once.

        ``patient``: an upload whose last answer is awaited is not ended yet.
        """
        self._patient = patient
        super().stop()
        if not self.sends:
            self._tools.road.transport.wake()

    def sign(self, rest_seconds: float = 0.0) -> None:
        super().sign(rest_seconds)
        self._row.renew()

    def _set_uploading(self, awaits_last_answer: Callable[[], bool] | None) -> None:
        self._awaits_last_answer = awaits_last_answer

    @property
    def sends(self) -> bool:
        """For other threads: something is on its way that a stop ends with care."""
        return self._awaits_last_answer is not None

    @property
    def awaits_last_answer(self) -> bool:
        """For other threads: a stop now might leave a file in doubt."""
        ask = self._awaits_last_answer
        return ask is not None and ask()

    def run(self) -> None:
        self._store.release_abandoned(self._row.id)
        while not self.stopping:
            self._heed_late_cancels()
            self._tools.closing.settle_accounts()
            if (seconds := self._delay()) > 0:
                self._rest(seconds)
            elif (job := self._store.claim(self._row.id, without=self._away_watches())) is not None:
                self._deliver(job)
            else:
                self._idle()
        self._show(WorkerState.STOPPED)

    def _heed_late_cancels(self) -> None:
        """Their turn may be hours away, while the queue is held, paused, or their drop folder is away."""
        for job in self._store.cancelled_meanwhile():
            self._tools.closing.cancel(job)

    def _away_watches(self) -> list[str]:
        """Those whose drop folders are away: their files are not gone."""
        return [
            watch.name for watch in self._tools.settings.watch if self._away(watch.name, False) is not None
        ]

    def _idle(self) -> None:
        """Nothing waits, or nothing but files whose drop folder is away."""
        for watch in self._tools.settings.watch:
            if (reason := self._away(watch.name, False)) is not None and self._store.waiting() > 0:
                self._show(WorkerState.HELD, f"The drop folder {watch.drop} is away: {reason}.")
                self._rest(AWAY_SECONDS)
                return
        self._show(WorkerState.IDLE)
        self._rest(LONGEST_REST_SECONDS)

    # before anything is sent

    def _delay(self) -> float:
        """Seconds before anything may be sent (held, paused, cooling down); says so where people look."""
        row = self._row.row()
        if row.release:
            self._row.take_release()
            self._release()
        if self._hold is not None and not self._released():
            self._show(WorkerState.HELD, self._hold.problem.sentence())
            if self._hold.kind is Kind.CREDENTIALS:
                return CONTROL_SECONDS  # a new token is looked out for
            return max(CONTROL_SECONDS, self._probe_at - self._clock.monotonic())
        if row.paused:
            self._show(WorkerState.PAUSED)
            return LONGEST_REST_SECONDS
        left = self._row.cooldown_left(self._tools.settings.queue.cooldown_seconds)
        if left > 0:
            self._show(WorkerState.COOLDOWN)
        return left

    def _rest(self, seconds: float) -> None:
        """Until woken, until anybody wrote to the queue, or what is owed is due; ``seconds`` at most."""
        until = self._clock.monotonic() + min(seconds, self._tools.closing.due_in())
        while not self.stopping and (left := until - self._clock.monotonic()) > 0:
            if self._clock.wait(self.bell, min(left, CONTROL_SECONDS)) or self._changes.seen():
                break
        if not self.stopping:
            self.bell.clear()

    def _show(self, state: WorkerState, reason: str | None = None, job_id: int | None = None) -> None:
        if self._shown != (state, reason, job_id):
            self._shown = (state, reason, job_id)
            self._row.show(state, reason=reason, job_id=job_id)

    def _begin_cooldown(self) -> None:
        seconds = self._tools.settings.queue.cooldown_seconds
        self._row.cool_down(self._clock.now() + seconds)
        self._announce(events.CooldownStarted(seconds))

    # holds

    def _begin_anew(self) -> None:
        """A batch was made: the way is good, also where the hold was one before a restart."""
        self._backoff.reset()
        self._release()

    def _begin_hold(self, fault: Fault) -> None:
        self._hold = Hold(fault.kind, fault.problem)
        self._row.begin_hold()
        self._probe_at = self._clock.monotonic() + self._backoff.next()
        self._announce(events.QueueHeld(fault.problem.code, fault.problem.summary))

    def _released(self) -> bool:
        assert self._hold is not None
        kind = self._hold.kind
        mended = kind is Kind.CREDENTIALS and self._tools.road.credentials.changed()
        if self._clock.monotonic() < self._probe_at and not mended:
            return False
        if not self._probe(kind):
            self._probe_at = self._clock.monotonic() + self._backoff.next()
            return False
        self._release()
        return True

    def _probe(self, kind: Kind) -> bool:
        """However long the server takes to answer, a stop and a `resume` are heeded."""

        def heed() -> None:
            if self.stopping or self._row.row().release:
                raise _Enough

        try:
            return self._tools.road.attended(lambda: self._tools.road.probe.answers(kind), heed)
        except _Enough:
            self.bell.set()
            return False

    def _release(self) -> None:
        self._hold = None
        if (seconds := self._row.end_hold()) is not None:
            self._announce(events.QueueReleased(round(seconds, 1)))

    # one job

    def _deliver(self, job: Job) -> None:
        """Have a job delivered, and draw the consequences of however that ends."""
        if (problem := self._sent_meanwhile(job)) is not None:
            self._tools.closing.fail(job, problem)
            return
        try:
            problem = JobDelivery(self._tools, self._desk, job).run()
            job = self._store.job(job.id)
            if problem is not None:
                self._fail(job, problem)
            else:
                self._tools.closing.complete(job)
                self._row.forgive_failures()
        except Failed as failure:
            self._draw_consequence(self._store.job(job.id), failure.fault)
        except Halted as halted:
            self._end_halted(self._store.job(job.id), halted.why)
        except SourceChanged as change:
            self._tools.closing.source_changed(self._store.job(job.id), str(change))
        except OSError as error:
            self._end_unread(self._store.job(job.id), error)

    def _sent_meanwhile(self, job: Job) -> Problem | None:
        """That the same content was delivered, or may have been, since this job was queued.

        Intake refuses what was delivered before; of copies that waited together, or of a file that was
        renamed while it was sent, the first alone goes out. What comes after a failure comes because of it.
        """
        begun = any(part.batch_id is not None or part.final_sent_at is not None for part in job.parts)
        if job.fingerprint is None or begun or self._tools.settings.queue.duplicates == "upload":
            return None
        if (earlier := self._store.delivered_before(job.fingerprint, since=job.created_at)) is not None:
            return duplicate(job.name, earlier)
        unfinished = self._store.unfinished_before(job.fingerprint, since=job.created_at)
        return None if unfinished is None else copy_of_unfinished(job.name, unfinished)

    def _end_unread(self, job: Job, error: OSError) -> None:
        """Its file is gone, or can't be read; of a share that is away nothing is known but that."""
        if (reason := self._away(job.watch, True)) is not None:
            self._store.give_back(job, attempted=False)
            self._announce(events.UploadSuspended(job.id, job.name, f"its drop folder is away: {reason}"))
        elif isinstance(error, FileNotFoundError):
            self._tools.closing.source_gone(job)
        elif error.errno in _FOR_GOOD or job.failures + 1 >= self._tools.settings.queue.max_attempts:
            self._fail(job, _unreadable(job, error))
        else:
            self._store.give_back(job, attempted=True)
            self._announce(events.UploadSuspended(job.id, job.name, _unreadable(job, error).summary))
            self._begin_cooldown()

    def _draw_consequence(self, job: Job, fault: Fault) -> None:
        if fault.kind is Kind.CHUNK:
            self._store.give_back(job, attempted=True)
            self._begin_cooldown()
        else:
            self._store.give_back(job, attempted=False)
            self._begin_hold(fault)

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


def _unreadable(job: Job, error: OSError) -> Problem:
    summary = f"{job.name} can't be read: {error.strerror or error}."
    return Problem("unreadable", summary, "Check its rights and its disk, then drop it again.")


def _too_many_failed(count: int, last: Problem) -> Problem:
    return Problem(
        "files_failing",
        f"{count} files failed one after the other, the last because: {last.summary}",
        "Look at failed/ and at the server; delivery goes on by itself after a while.",
    )
