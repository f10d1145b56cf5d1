"""Do the threads advance? Asked before systemd's watchdog is fed."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass

from omrwatchd.clock import Clock
from omrwatchd.lifecycle import Service
from omrwatchd.settings import Settings

LISTING_SECONDS = 30 * 60.0
"""For one listing of a drop folder, or one look into a ZIP: between them intake gives a sign.

Long on purpose: to kill a daemon whose share is slow would only have it begin the same listing again.
"""
STEP_SECONDS = 15 * 60.0
"""For one step of the worker. In an upload it signs while bytes go out, and every second while it waits."""
REQUESTS_IN_A_STEP = 4
"""A login, and a question asked again with the new token, at most; each may use up its time limits."""
STACK_DEPTH = 6


def worker_limit(settings: Settings) -> float:
    """Seconds without a sign after which the worker thread hangs."""
    server = settings.server
    return STEP_SECONDS + REQUESTS_IN_A_STEP * (server.connect_timeout + server.read_timeout)


@dataclass
class Watched:
    """A thread, and how long it may be silent."""

    service: Service
    limit: float
    """Seconds."""
    signs: int = -1
    since: float = 0.0
    told: bool = False

    def silence(self, now: float) -> float:
        """Seconds since its latest sign, beyond the rest that it announced."""
        if self.service.signs != self.signs:
            self.signs, self.since, self.told = self.service.signs, now, False
        return now - self.since - self.service.rest_seconds


@dataclass(frozen=True, slots=True)
class Silence:
    """A thread that hangs."""

    thread: str
    seconds: float
    stack: str
    """Where it stands, innermost call last."""
    is_new: bool


class Liveness:
    """Asked from time to time by the main thread."""

    def __init__(self, watched: list[Watched], clock: Clock) -> None:
        self._watched = watched
        self._clock = clock

    def silences(self) -> list[Silence]:
        """The threads that have been silent for too long; none when all is well."""
        now = self._clock.monotonic()
        return [self._silence(one, now) for one in self._watched if one.silence(now) > one.limit]

    def _silence(self, one: Watched, now: float) -> Silence:
        is_new, one.told = not one.told, True
        service = one.service
        return Silence(service.name, round(now - one.since, 1), stack_of(service.ident), is_new)


def stack_of(thread: int | None) -> str:
    """The innermost calls of a thread on one line; empty when it does not run."""
    frame = None if thread is None else sys._current_frames().get(thread)
    calls = [] if frame is None else traceback.extract_stack(frame)[-STACK_DEPTH:]
    return " > ".join(f"{call.name} ({call.filename.rpartition('/')[2]}:{call.lineno})" for call in calls)
