"""Ending an upload from outside: said once, noticed by every thread between two blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class Why(StrEnum):
    STOP = "stop"
    CANCEL = "cancel"


class Halted(Exception):
    """Raised where work was given up because of a Halt."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Halt:
    """A word that ends an upload; the first reason given stands."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake`` is called when the word is given: it frees threads blocked in a send or receive."""
        self.event = threading.Event()
        self._wake = wake
        self._lock = threading.Lock()
        self._why: Why | None = None

    def give(self, why: Why) -> None:
        """May be said again, and is while threads are on their way into another wait: all are woken anew."""
        with self._lock:
            self._why = self._why or why
        self.event.set()
        self._wake()

    def check(self) -> None:
        """Raises Halted once the word is given."""
        if self._why is not None:
            raise Halted(self._why)
