"""The processing queue, as far as a client sees it: busy or not."""

from __future__ import annotations

import threading


class ProcessingQueue:
    """Busy while ``busy`` is set, and for the next ``busy_polls`` askings. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.busy = False
        self.busy_polls = 0

    def ask(self) -> int:
        """How many batches wait ahead: 0 is not busy. Counts as a poll, and so does a try to start."""
        with self._lock:
            waiting = max(self.busy_polls, int(self.busy))
            self.busy_polls = max(0, self.busy_polls - 1)
            return waiting
