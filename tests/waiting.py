"""Waiting for a condition, with a deadline: never for a length of time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from omrwatchd.clock import SystemClock

T = TypeVar("T")
_NEVER = threading.Event()


def until(condition: Callable[[], T], seconds: float = 20.0, what: str = "the condition") -> T:
    """The condition's first true value; AssertionError after ``seconds``."""
    for _ in range(max(1, round(seconds / 0.02))):
        if value := condition():
            return value
        _NEVER.wait(0.02)
    raise AssertionError(f"{what} did not come true in {seconds} s")


class HurriedClock:
    """A clock on which waits pass ten times faster: real threads and sockets, without the idle seconds."""

    FACTOR = 10.0

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic() * self.FACTOR

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        return self._clock.wait(event, None if seconds is None else seconds / self.FACTOR)
