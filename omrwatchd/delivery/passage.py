"""A delivered batch before the processing gate: asked for, waited for in sight, asked for again."""

from __future__ import annotations

from collections.abc import Callable

from omrwatchd import events
from omrwatchd.delivery.desk import Desk, Tools
from omrwatchd.delivery.halt import Halted, Why
from omrwatchd.delivery.hold import Backoff
from omrwatchd.delivery.processing import Wait
from omrwatchd.errors import Problem
from omrwatchd.model import Part, WorkerState


class Passage:
    """Sees one batch through. Whatever is in the way costs the delivered file nothing.

    Args:
        heed: raises Halted when the daemon stops or the job is cancelled.
    """

    def __init__(self, tools: Tools, desk: Desk, heed: Callable[[], None], job_id: int) -> None:
        self._gate = tools.gate
        self._road = tools.road
        self._ledger = tools.road.ledger
        self._store = tools.store
        self._row = tools.row
        self._clock = tools.clock
        self._announce = tools.road.announce
        self._poll_seconds = tools.settings.processing.poll_seconds
        self._desk = desk
        self._heed = heed
        self._job_id = job_id
        self._backoff = Backoff()
        self._told: Wait | None = None
        self._held: Problem | None = None
        self._held_since = 0.0

    def see_through(self, part: Part) -> None:
        """Return when the server processes the batch, or needs not be asked.

        Raises Halted.
        """
        if not self._gate.enabled or part.started_at is not None or part.batch_id is None:
            return
        try:
            while (wait := self._try(part.batch_id)) is not None:
                self._tell(part.batch_id, wait)
                self._sleep(self._poll_seconds if wait.problem is None else self._backoff.next())
        except Halted as halted:
            if halted.why is Why.CANCEL:
                self._end_hold()
            raise
        self._end_hold()
        self._ledger.processing_started(part)
        self._announce(events.ProcessingStarted(self._job_id, part.batch_id))

    def _try(self, batch_id: str) -> Wait | None:
        wait = self._road.attended(self._gate.ask, self._heed)
        if wait is not None:
            return wait
        # a stop must not cut this off: whether it was started could not be known then
        self._desk.uploading(lambda: False)
        try:
            return self._road.attended(lambda: self._gate.start(batch_id), self._heed_cancel)
        finally:
            self._desk.uploading(None)

    def _heed_cancel(self) -> None:
        self._row.renew()
        if self._store.cancel_requested(self._job_id):
            raise Halted(Why.CANCEL)

    def _tell(self, batch_id: str, wait: Wait) -> None:
        """A busy server is waited for as processing; what is broken holds the queue, as any outage does."""
        new, self._told = wait != self._told, wait
        if wait.problem is None:
            self._end_hold()
            self._backoff.reset()
            if new:
                self._announce(events.ProcessingBusy(self._job_id, batch_id, wait.reason))
            self._desk.show(WorkerState.PROCESSING, wait.reason, self._job_id)
            return
        if self._held is None:
            self._held_since = self._clock.now()
        if self._held != wait.problem:
            self._announce(events.QueueHeld(wait.problem.code, wait.problem.summary))
        self._held = wait.problem
        self._desk.show(WorkerState.HELD, wait.problem.sentence(), self._job_id)

    def _end_hold(self) -> None:
        if self._held is not None:
            self._held = None
            self._announce(events.QueueReleased(round(self._clock.now() - self._held_since, 1)))

    def _sleep(self, seconds: float) -> None:
        """Until it is time to ask again; an operator's `resume` says that it is."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self._heed()
            self._desk.rest(left)
            if self._row.row().release:
                self._row.take_release()
                return
