"""How a job ends: recorded first, then filed, then summed up; each step retried until it holds."""

from __future__ import annotations

import math

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.delivery.filing import Filing, FilingDelayed
from omrwatchd.delivery.summary import SummaryLog
from omrwatchd.errors import Problem
from omrwatchd.events import Announce
from omrwatchd.model import OUTCOME_UNKNOWN, Job, Status
from omrwatchd.queue.control import cancelled
from omrwatchd.queue.store import Store, gone

RETRY_SECONDS = 30.0


class Closing:
    """Ends jobs. What can't be filed or written now is owed, and tried again by settle_accounts."""

    def __init__(
        self, store: Store, filing: Filing, summary: SummaryLog, clock: Clock, announce: Announce
    ) -> None:
        self._store = store
        self._filing = filing
        self._summary = summary
        self._clock = clock
        self._announce = announce
        self._not_before: dict[int, float] = {}
        self._summary_not_before = 0.0

    def complete(self, job: Job) -> None:
        """A job whose every part is a batch: file it under done/."""
        if not self._file(job):
            self._store.move(job.id, job.status, Status.COMPLETED)
        seconds = round((job.delivered_at or 0.0) - (job.started_at or 0.0), 3)
        self._announce(
            events.FileCompleted(job.id, job.name, job.batch_ids, job.identity.size, job.sheets, seconds)
        )
        self._sum_up()

    def fail(self, job: Job, problem: Problem) -> None:
        """End a job as error, and file it under failed/ with the reason beside it."""
        self._store.end(job, Status.ERROR, problem)
        self._announce(events.FileFailed(job.id, job.name, problem.code, problem.summary))
        self.settle_accounts()

    def cancel(self, job: Job) -> None:
        """An operator's word ends it; what became a batch stays one."""
        self._abort(job, cancelled(job))

    def source_gone(self, job: Job) -> None:
        """The file was taken away while it waited."""
        self._abort(job, gone(job))

    def _abort(self, job: Job, problem: Problem) -> None:
        self._store.end(job, Status.ABORTED, problem)
        self._announce(events.FileAborted(job.id, job.name, problem.summary, problem.code))
        self.settle_accounts()

    def source_changed(self, job: Job, reason: str) -> None:
        """Back to settling: the queue forgets the job, and intake takes the file as a new one."""
        self._announce(events.SourceChanged(job.id, job.name, reason))
        if job.batch_ids:
            summary = f"{job.name} was changed after {len(job.batch_ids)} of its parts were delivered."
            self.fail(job, Problem("file_changed", summary, "Look on the server, then drop the file again."))
        elif job.in_doubt:
            summary = f"{job.name} was changed while the server's last answer was awaited: a batch may exist."
            advice = "Look on the server; what lies there now is delivered as a file of its own."
            self.fail(job, Problem(OUTCOME_UNKNOWN, summary, advice))
        else:
            self._store.withdraw(job)

    def settle_accounts(self) -> None:
        """File and sum up whatever is owed and due."""
        for job in self._store.unfiled():
            if self._clock.monotonic() >= self._not_before.get(job.id, 0.0):
                self._file(job)
        self._sum_up()

    def due_in(self) -> float:
        """Seconds until something that is owed may be tried again; inf when nothing is."""
        moments = [*self._not_before.values(), self._summary_not_before]
        now = self._clock.monotonic()
        return min((moment - now for moment in moments if moment > now), default=math.inf)

    def _file(self, job: Job) -> bool:
        """Whether the file is where it belongs now."""
        try:
            delivered = job.status not in (Status.ERROR, Status.ABORTED)
            target = self._filing.file(job, delivered=delivered)
        except FilingDelayed as delay:
            self._not_before[job.id] = self._clock.monotonic() + RETRY_SECONDS
            if job.filing_problem != str(delay):
                self._store.note(job.id, filing_problem=str(delay))
                self._announce(events.FilingDelayed(job.id, job.name, str(delay)))
            return False
        self._not_before.pop(job.id, None)
        self._announce(events.FileFiled(job.id, job.name, target.decode("utf-8", "backslashreplace")))
        return True

    def _sum_up(self) -> None:
        if self._clock.monotonic() < self._summary_not_before:
            return
        for job in self._store.unsummarised():
            try:
                self._summary.write(job)
            except OSError as error:
                self._summary_not_before = self._clock.monotonic() + RETRY_SECONDS
                reason = f"{error.filename or 'the summary log'}: {error.strerror or error}"
                self._announce(events.SummaryDelayed(reason))
                return
            self._store.summarised(job)
