"""A look into a folder of another host, on a thread of its own: one that hangs holds up no other folder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from omrwatchd.clock import Clock
from omrwatchd.intake.scan import FolderLost
from omrwatchd.lifecycle import Sign

T = TypeVar("T")
SILENT_SECONDS = 10.0
"""Without a single entry of the listing. A call into a dead share may never return, and nothing ends it."""


class _Errand(Generic[T]):
    def __init__(self, look: Callable[[Sign], T], began: float) -> None:
        self.began = began
        self.done = threading.Event()
        self.steps = 0
        self._look = look
        self._result: T | None = None
        self._loss: BaseException | None = None
        threading.Thread(target=self._go, name="scout", daemon=True).start()

    def _go(self) -> None:
        try:
            self._result = self._look(self._step)
        except BaseException as loss:  # noqa: BLE001 - it is raised again on the intake thread
            self._loss = loss
        self.done.set()

    def _step(self) -> None:
        self.steps += 1

    def result(self) -> T:
        if self._loss is not None:
            raise self._loss
        assert self._result is not None
        return self._result


class Scout(Generic[T]):
    """One errand at a time; one that hangs is waited for as long as it takes, without waiting."""

    def __init__(self, look: Callable[[Sign], T], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._errand: _Errand[T] | None = None

    def look(self) -> tuple[T, float]:
        """What the look found, and when it began (monotonic seconds).

        Raises:
            FolderLost: as the look does, and when it does not get on.
        """
        hangs = self._errand is not None
        errand = self._errand or _Errand(self._look, self._clock.monotonic())
        steps = -1
        while not self._clock.wait(errand.done, 0.0 if hangs else SILENT_SECONDS):
            if hangs or errand.steps == steps:
                self._errand = errand
                raise FolderLost("it does not answer; its server may be away")
            steps = errand.steps
        self._errand = None
        return errand.result(), errand.began
