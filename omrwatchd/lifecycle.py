"""One lifecycle for every thread: start, stop, join; a thread's death goes upward."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

Died = Callable[[str, BaseException], None]
"""Called once, from the dying thread, with the service's name and what killed it."""
Sign = Callable[[], None]
"""Called between the steps of what takes long: a sign of life."""


def nobody_listens() -> None:
    """The sign of what nobody waits for."""


class Service(ABC):
    """A thread with a name.

    ``stop`` only asks, and is safe twice and before ``start``; ``join`` waits. ``bell`` wakes the thread:
    its waits are waits on the bell, so that a stop, an operator's word or new work is noticed at once.
    """

    def __init__(self, name: str, on_death: Died) -> None:
        self.name = name
        self.bell = threading.Event()
        self._on_death = on_death
        self.signs = 0
        """Of life: the thread's own count of its steps. That it grows is what the watchdog goes by."""
        self.rest_seconds = 0.0
        """How long the thread means to be silent after its latest sign."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        if not self._stopping.is_set():
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self.bell.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end, at most ``timeout`` seconds; True when it has (or never ran)."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """For the thread itself, between two steps: that it asks is a sign of life."""
        self.sign()
        return self._stopping.is_set()

    @property
    def asked_to_stop(self) -> bool:
        """The same question where it proves nothing, because the work is other threads'."""
        return self._stopping.is_set()

    def sign(self, rest_seconds: float = 0.0) -> None:
        """By the thread itself: it lives, and is at rest for so long now if it says so."""
        self.rest_seconds = rest_seconds
        self.signs += 1

    @property
    def ident(self) -> int | None:
        """The thread's number, once it runs."""
        return self._thread.ident

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @abstractmethod
    def run(self) -> None:
        """The thread's work, until ``stopping``; an exception out of it ends the process."""

    def _main(self) -> None:
        try:
            self.run()
        except BaseException as death:  # noqa: BLE001 - the top of a thread, the one place for it
            self._on_death(self.name, death)
