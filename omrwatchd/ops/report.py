"""What the service manager hears of a daemon at work: its status line, and that it lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.events import Announce, Event
from omrwatchd.ops.liveness import Liveness, Watched
from omrwatchd.ops.status_line import status_line
from omrwatchd.ops.systemd import Notifier, watchdog_seconds
from omrwatchd.queue.glimpse import Glance

STATUS_SECONDS = 2.0
"""Between two looks at the queue; at rest such a look is one PRAGMA, and nothing is said."""
REFUSED = "the changed configuration is refused (see the log), the old one is in effect"


class Report:
    """Made once; `of` for each configuration under which the daemon works; `tick` by the main thread."""

    def __init__(self, notifier: Notifier, clock: Clock, announce: Announce) -> None:
        self._notifier = notifier
        self._clock = clock
        self._announce = announce
        self._watchdog = watchdog_seconds()
        self._glance: Glance | None = None
        self._liveness = Liveness([], clock)
        self._fed_at = 0.0
        self._looked_at = 0.0
        self._lost: dict[str, str] = {}
        self._refused = False
        self._noted = True

    @property
    def pause(self) -> float | None:
        """Seconds between two ticks; None: nobody listens, so none is needed."""
        if not self._notifier.heard:
            return None
        return STATUS_SECONDS if self._watchdog is None else min(STATUS_SECONDS, self._watchdog / 3)

    @contextmanager
    def of(self, queue_file: Path, watched: list[Watched]) -> Iterator[None]:
        """These threads are at work on this queue."""
        self._lost, self._noted, self._looked_at = {}, True, 0.0
        self._liveness = Liveness(watched, self._clock)
        self._glance = Glance(queue_file) if self._notifier.heard else None
        try:
            yield
        finally:
            if self._glance is not None:
                self._glance.close()
            self._glance = None

    def listen(self, event: Event) -> None:
        """Hears, on any thread, what the queue does not tell."""
        if isinstance(event, events.DropFolderLost):
            self._lost = self._lost | {event.watch: f"nothing comes from {event.folder}: {event.reason}"}
        elif isinstance(event, events.DropFolderBack):
            self._lost = {name: note for name, note in self._lost.items() if name != event.watch}
        elif isinstance(event, events.ConfigRefused | events.ConfigReloaded):
            self._refused = isinstance(event, events.ConfigRefused)
        else:
            return
        self._noted = True

    def tick(self) -> None:
        """Say what has changed, and feed the watchdog when it is time and all threads advance."""
        if self._glance is None:
            return
        now = self._clock.monotonic()
        if now - self._looked_at >= STATUS_SECONDS / 2:
            self._looked_at = now
            self._tell(self._glance)
        if self._watchdog is not None and now + (self.pause or 0.0) > self._fed_at + self._watchdog / 3:
            self._feed(now)

    def _tell(self, glance: Glance) -> None:
        if not glance.changed() and not self._noted:
            return
        self._noted = False
        notes = (*self._lost.values(), *([REFUSED] if self._refused else []))
        self._notifier.status(status_line(glance.look(), notes))

    def _feed(self, now: float) -> None:
        silences = self._liveness.silences()
        for silence in silences:
            if silence.is_new:
                self._announce(events.ThreadSilent(silence.thread, silence.seconds, silence.stack))
        if not silences:
            self._fed_at = now
            self._notifier.alive()
