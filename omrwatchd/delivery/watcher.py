"""What the worker thread does while chunk threads send: progress, heartbeat, a stop, a cancel."""

from __future__ import annotations

from collections.abc import Callable

from omrwatchd.clock import Clock, local_time
from omrwatchd.delivery.halt import Halt, Why
from omrwatchd.delivery.upload import PartUpload
from omrwatchd.model import Job
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store

PROGRESS_SECONDS = 0.5
"""At most two updates a second reach the database."""
LAST_ANSWER_GRACE_SECONDS = 3.0
"""How long a stop waits for an answer whose loss would leave the outcome unknown."""
LONG_PAUSE_SECONDS = 10.0
"""Of those that a server asks for: people wonder why nothing moves."""
_SMOOTHING = 0.3


class UploadWatcher:
    """Ticks for one upload."""

    def __init__(
        self,
        job: Job,
        upload: PartUpload,
        halt: Halt,
        stopping: Callable[[], bool],
        sign: Callable[[], None],
        tell: Callable[[str | None], None],
        store: Store,
        ledger: Ledger,
        worker: str,
        clock: Clock,
    ) -> None:
        """``tell``: shows why nothing is sent just now; None: it is."""
        self._job = job
        self._upload = upload
        self._halt = halt
        self._stopping = stopping
        self._sign = sign
        self._signed_for: object = None
        self._tell = tell
        self._told_of_pause = False
        self._store = store
        self._ledger = ledger
        self._worker = worker
        self._clock = clock
        self._stop_seen: float | None = None
        self._shown_at = clock.monotonic()
        self._shown_bytes = 0
        self._rate: float | None = None

    def tick(self) -> None:
        now = self._clock.monotonic()
        self._show_life()
        self._show_pause()
        if self._stopping():
            self._stop(now)
        if self._store.cancel_requested(self._job.id):
            self._halt.give(Why.CANCEL)
        if now - self._shown_at >= PROGRESS_SECONDS:
            self._show(now)

    def _show_life(self) -> None:
        """That this thread ticks proves nothing: it is the chunk threads that must advance.

        They are silent while they wait for an answer or for a connection, which the settings limit, and
        while the server wants to be left alone.
        """
        if self._upload.pause_left > 0 or self._upload.bytes_sent != self._signed_for:
            self._signed_for = self._upload.bytes_sent
            self._sign()

    def _show_pause(self) -> None:
        left = self._upload.pause_left
        if left > LONG_PAUSE_SECONDS and not self._told_of_pause:
            until = local_time(self._clock.now() + left).partition(" ")[2]
            self._tell(f"The server asks for a pause until {until}.")
            self._told_of_pause = True
        elif left == 0 and self._told_of_pause:
            self._tell(None)
            self._told_of_pause = False

    def _stop(self, now: float) -> None:
        if self._stop_seen is None:
            self._stop_seen = now
        if not self._upload.awaits_last_answer or now - self._stop_seen > LAST_ANSWER_GRACE_SECONDS:
            self._halt.give(Why.STOP)

    def _show(self, now: float) -> None:
        sent = self._upload.bytes_sent
        rate = max(0, sent - self._shown_bytes) / (now - self._shown_at)
        smoothed = rate if self._rate is None else self._rate + _SMOOTHING * (rate - self._rate)
        self._rate = None if self._shown_bytes == 0 else smoothed
        self._shown_at, self._shown_bytes = now, sent
        part = self._upload.part
        self._ledger.progress(part, min(sent, part.size), self._worker, self._rate)
