"""Drop folders that are away, as an unmounted share: their jobs wait for them, the others go on."""

from __future__ import annotations

from collections.abc import Callable

from omrwatchd.clock import Clock

LOOK_SECONDS = 5.0


class Absences:
    """Used on the worker thread alone."""

    def __init__(self, why_lost: Callable[[str], str | None], clock: Clock) -> None:
        """``why_lost``: of a watch, in words, when its drop folder is not there."""
        self._why_lost = why_lost
        self._clock = clock
        self._away: set[str] = set()
        self._look_at = 0.0

    def why(self, watch: str) -> str | None:
        """To be asked when a file is gone or can't be read: is it the whole folder?"""
        reason = self._why_lost(watch)
        if reason is not None:
            self._away.add(watch)
            self._look_at = self._clock.monotonic() + LOOK_SECONDS
        return reason

    def watches(self) -> frozenset[str]:
        """Whose jobs have to wait; looked after anew every few seconds."""
        if self._away and self.due_in() <= 0:
            self._away = {watch for watch in self._away if self._why_lost(watch) is not None}
            self._look_at = self._clock.monotonic() + LOOK_SECONDS
        return frozenset(self._away)

    def due_in(self) -> float:
        """Seconds until the next look, where one is due at all."""
        return self._look_at - self._clock.monotonic()
