"""Signals, heard by a thread of their own from the first moment on.

Python runs a handler on the main thread, between two of its steps. One whose signal comes just before that
thread begins to wait runs when the wait is over, which may be never; one that comes during a call into SQLite
or the kernel waits for its end; and what a handler raises is lost where nothing can be raised, in a finaliser
for example. The wakeup descriptor is written to at once, whatever the main thread is doing
(signal.set_wakeup_fd).
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from functools import cache

RELOAD = signal.SIGHUP.name
LONGEST_STOP_SECONDS = 4.8
"""From the signal to the end of the process, should its orderly end take longer than that (or hang)."""


class Signals:
    """The words that came from outside, as names of signals; other threads may add their own."""

    def __init__(self) -> None:
        self.words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.at_work = False
        """Threads run that a stop must end with care; until then a stop ends the process on the spot."""
        self.asked_to_end = False
        """A stop has come; what waits for nothing but its own end heeds it by this."""
        self._heard: set[int] = set()
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._reader, True)
        signal.set_wakeup_fd(writer)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def hear(self, *numbers: signal.Signals) -> None:
        """From now on; on the main thread."""
        self._heard |= {*numbers}
        for number in numbers:
            signal.signal(number, lambda _number, _frame: None)

    def _listen(self) -> None:
        while True:
            number = os.read(self._reader, 1)[0]
            if number in self._heard:
                self._take(signal.Signals(number).name)

    def _take(self, name: str) -> None:
        self.asked_to_end = self.asked_to_end or name != RELOAD
        self.words.put(name)
        if name != RELOAD:
            if self.at_work:
                threading.Event().wait(LONGEST_STOP_SECONDS)
            os._exit(0)


@cache
def signals() -> Signals:
    """Of this process; made by the first who asks, on the main thread."""
    return Signals()
