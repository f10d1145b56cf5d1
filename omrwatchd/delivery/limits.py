"""How fast bytes may go out: one limit over all chunk threads together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from omrwatchd.clock import Clock
from omrwatchd.delivery.halt import Halt
from omrwatchd.settings import Upload

_BLOCKS_A_SECOND = 8
_SMALLEST_BLOCK = 4 * 1024


def rate_at(minute: int, timetable: Sequence[tuple[int, int]], default: int) -> int:
    """The rate in force (bytes a second; 0: none) at a minute of the day. Pure.

    ``timetable`` has (minute, rate) pairs; before the first of the day, the last of the day before holds.
    """
    if not timetable:
        return default
    begun = [entry for entry in timetable if entry[0] <= minute]
    return max(begun or timetable, key=lambda entry: entry[0])[1]


class RateLimit:
    """Asked before each block; whoever comes too early waits for its turn."""

    def __init__(self, settings: Upload, clock: Clock) -> None:
        self._default = int(settings.max_rate)
        self._timetable = [(_minute(time), int(rate)) for time, rate in settings.timetable]
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def rate(self) -> int:
        """Bytes a second in force now (local time); 0: no limit."""
        if not self._timetable:
            return self._default
        now = datetime.fromtimestamp(self._clock.now())
        return rate_at(now.hour * 60 + now.minute, self._timetable, self._default)

    def block(self, most: int) -> int:
        """How many bytes to send at once: few on a slow lane, so that it flows and does not lurch."""
        rate = self.rate
        return min(most, max(_SMALLEST_BLOCK, rate // _BLOCKS_A_SECOND)) if rate else most

    def take(self, amount: int, halt: Halt) -> None:
        """Wait until ``amount`` bytes may go; raises Halted."""
        rate = self.rate
        if not rate:
            return
        with self._lock:
            turn = max(self._clock.monotonic(), self._free_at)
            self._free_at = turn + amount / rate
        while (left := turn - self._clock.monotonic()) > 0:
            self._clock.wait(halt.event, left)
            halt.check()


def _minute(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)
