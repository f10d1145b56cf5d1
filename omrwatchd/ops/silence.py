"""Notices that nothing arrives: a scanner that is off, a share that is mounted elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.events import Announce, Event
from omrwatchd.lifecycle import Died, Service
from omrwatchd.settings import Notify

LONGEST_WAIT_SECONDS = 300.0
"""The time of the day is looked at again: clocks are set, and machines sleep."""
DAY_SECONDS = 86_400.0
_ARRIVALS = (events.FileArriving, events.FileStillGrowing, events.FileQueued)


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a day that counts, in seconds since midnight, local time; it may go over midnight."""

    opens: float
    closes: float

    @classmethod
    def of(cls, times: tuple[str, ...]) -> Window | None:
        """From ("08:00", "18:00"); None, always, from ()."""
        return cls(_seconds(times[0]), _seconds(times[1])) if times else None

    def open_for(self, now: float) -> float | None:
        """Seconds since it opened, at ``now`` seconds after midnight; None when it is closed."""
        since = (now - self.opens) % DAY_SECONDS
        return since if since < (self.closes - self.opens) % DAY_SECONDS else None

    def opens_in(self, now: float) -> float:
        """Seconds until it opens next."""
        return (self.opens - now) % DAY_SECONDS


def _seconds(time_of_day: str) -> float:
    hours, minutes = time_of_day.split(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0


class SilenceWatch(Service):
    """Announces `silence` once when nothing has arrived for so long; the next file ends it."""

    def __init__(self, settings: Notify, clock: Clock, announce: Announce, on_death: Died) -> None:
        super().__init__("silence", on_death)
        self._minutes = settings.silence_minutes
        self._window = Window.of(settings.silence_window)
        self._clock = clock
        self._announce = announce
        self._last = clock.monotonic()
        self._told_of: float | None = None

    def __call__(self, event: Event) -> None:
        """Take note of what arrives, on whatever thread that is."""
        if isinstance(event, _ARRIVALS):
            self._last = self._clock.monotonic()
            if self._told_of is not None:
                self.bell.set()

    def run(self) -> None:
        while not self.stopping:
            self._clock.wait(self.bell, min(LONGEST_WAIT_SECONDS, self._look()))
            if not self.stopping:
                self.bell.clear()

    def _look(self) -> float:
        """Tell of a silence that is due; seconds until another look may be worth it."""
        last = self._last
        if self._told_of == last:
            return LONGEST_WAIT_SECONDS
        self._told_of = None
        quiet = self._clock.monotonic() - last
        if self._window is not None:
            time_of_day = _time_of_day(self._clock.now())
            open_for = self._window.open_for(time_of_day)
            if open_for is None:
                return max(1.0, self._window.opens_in(time_of_day))
            quiet = min(quiet, open_for)  # the night before does not count
        left = self._minutes * 60.0 - quiet
        if left <= 0:
            self._told_of = last
            self._announce(events.Silence(round((self._clock.monotonic() - last) / 60, 1)))
            return LONGEST_WAIT_SECONDS
        return left


def _time_of_day(now: float) -> float:
    local = datetime.fromtimestamp(now)
    return local.hour * 3600.0 + local.minute * 60.0 + local.second + local.microsecond / 1e6
