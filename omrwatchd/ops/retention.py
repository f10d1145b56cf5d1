"""Old files leave done/, and old jobs the history; once an hour, by a steady clock, only what is surely ours.

Deleted is what the daemon itself filed under done/, delivered and summed up, and what still is the very file
that was recorded: size, time and inode. Everything else that lies there is somebody else's, and stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.events import Announce
from omrwatchd.lifecycle import Died, Service
from omrwatchd.model import Job
from omrwatchd.ops.prune import NotOurs, Vanished, prune
from omrwatchd.queue.history import AT_ONCE, History
from omrwatchd.settings import Retention, Watch

EVERY_SECONDS = 3600.0
FIRST_SECONDS = 600.0
"""After a start: a clock that was wrong at boot is set by then (NTP)."""
JUMP_SECONDS = 600.0
"""Between two rounds: by so much the time of the day was set, or the machine slept."""
DAY_SECONDS = 86_400.0


class Keeper(Service):
    """Prunes done/ and the history."""

    def __init__(
        self,
        settings: Retention,
        history: History,
        watch_named: Callable[[str], Watch | None],
        clock: Clock,
        announce: Announce,
        on_death: Died,
    ) -> None:
        super().__init__("retention", on_death)
        self._settings = settings
        self._history = history
        self._watch_named = watch_named
        self._clock = clock
        self._announce = announce
        self._told: set[str] = set()
        self._clocks_apart: float | None = None

    def run(self) -> None:
        wait = FIRST_SECONDS
        while not self.stopping:
            if self._clock_is_steady():
                self.look()
                wait = EVERY_SECONDS
            self._clock.wait(self._stopping, wait)

    def _clock_is_steady(self) -> bool:
        """Whether the time of the day has only passed since the last round; False at the first.

        All of done/ is old to a clock that is a year ahead.
        """
        apart, before = self._clock.now() - self._clock.monotonic(), self._clocks_apart
        self._clocks_apart = apart
        return before is not None and abs(apart - before) < JUMP_SECONDS

    def look(self) -> None:
        """One round; what can't be done now is tried again in the next."""
        now = self._clock.now()
        try:
            if self._settings.done_days > 0:
                self._prune_done(now - self._settings.done_days * DAY_SECONDS)
            if self._settings.history_days > 0:
                self._trim_history(now - self._settings.history_days * DAY_SECONDS)
        except Problem as problem:
            self._tell_delay(problem.summary)

    def _prune_done(self, moment: float) -> None:
        after, jobs = 0, self._history.filed_before(moment, 0)
        while jobs and not self.stopping:
            for job in jobs:
                self._prune(job)
                after = job.id
            jobs = self._history.filed_before(moment, after) if len(jobs) == AT_ONCE else []

    def _prune(self, job: Job) -> None:
        watch = self._watch_named(job.watch)
        if self.stopping or watch is None or os.path.dirname(job.path) != os.fsencode(watch.done_folder):
            return  # the settings speak of other folders by now
        try:
            freed = prune(job, watch)
        except Vanished as vanished:
            if vanished.for_good:
                self._history.file_left(job.id)
            return
        except NotOurs as reason:
            self._history.file_left(job.id)
            self._announce(events.FileKept(job.id, job.name, str(reason)))
            return
        except OSError as error:
            self._tell_delay(f"{os.path.dirname(job.path).decode('utf-8', 'backslashreplace')}: "
                             f"{error.strerror or error}")  # fmt: skip
            return
        self._history.file_left(job.id)
        path = job.path.decode("utf-8", "backslashreplace")
        self._announce(events.FilePruned(job.id, job.name, path, freed))

    def _trim_history(self, moment: float) -> None:
        deleted = shortened = 0
        while not self.stopping:
            trimmed = self._history.trim(moment)
            deleted += trimmed.deleted
            shortened += trimmed.shortened
            if trimmed.deleted + trimmed.shortened < AT_ONCE:
                break
        if deleted or shortened:
            self._announce(events.HistoryPruned(deleted, shortened))

    def _tell_delay(self, reason: str) -> None:
        """Each reason once while the daemon runs: it is tried again every hour."""
        if reason not in self._told:
            self._told.add(reason)
            self._announce(events.RetentionDelayed(reason))
