"""The intake thread: listens for hints, scans when it is time, tells what is arriving."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.events import Announce
from omrwatchd.intake.admit import Admission
from omrwatchd.intake.board import Boards
from omrwatchd.intake.folder import DropFolder
from omrwatchd.intake.observer import Hints
from omrwatchd.intake.scan import Found
from omrwatchd.lifecycle import Died, Service
from omrwatchd.model import Arriving, display_name
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings

SHORTEST_PAUSE_SECONDS = 0.25
"""Between two scans that hints ask for; ten times the last scan where that is longer."""
ROOM_SECONDS = 1.0
"""How soon it is noticed that a full queue has room."""
ARRIVING_SECONDS = 1.0
LISTENING_SECONDS = 30.0
"""How soon it is noticed that hints come no more, however rarely the folders are scanned."""


class Intake(Service):
    """Everything left of the queue, on one thread."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        announce: Announce,
        views: Views,
        wake_worker: Callable[[], None],
        on_death: Died,
    ) -> None:
        super().__init__("intake", on_death)
        self._folders = [
            DropFolder(watch, Admission(watch, store, settings), store, clock, announce)
            for watch in settings.watch
        ]
        self._store = store
        self._clock = clock
        self._announce = announce
        self._queue_limit = settings.queue.max_files
        self._wake_worker = wake_worker
        self._hints = Hints(self._ring)
        self._boards = Boards(settings.watch, views, store.changes(), clock)
        self._changes = store.changes()
        self._hinted = False
        self._looked = True
        self._deaf_told: set[bytes] = set()
        self._arriving_told: dict[bytes, Arriving] | None = None
        self._arriving_at = 0.0
        self.last_scan_at: float | None = None
        """Monotonic seconds: that this advances is the sign of life."""

    @property
    def quiet(self) -> bool:
        """Every folder is scanned and holds nothing more that may be delivered."""
        return all(folder.quiet for folder in self._folders) and not self._hinted

    def away(self, watch: str, look: bool) -> str | None:
        """Why the drop folder of a watch can't be trusted now; None when it is there. For other threads.

        ``look``: look now, where else the last scan's word counts; what it finds is looked into at once.
        """
        folder = next((folder for folder in self._folders if folder.watch.name == watch), None)
        reason = None if folder is None else folder.away(look=look)
        if look and folder is not None and reason is not None and not folder.lost:
            folder.due = 0.0
            self.bell.set()
        return reason

    def run(self) -> None:
        self._hints.start()
        try:
            while not self.stopping:
                self._listen()
                self._scan()
                self._tell_arriving()
                self._boards.refresh(self._lost())
                self._rest()
        finally:
            self._hints.stop()
            self._hints.join(1.0)
            self._boards.close(self._lost())

    def _lost(self) -> set[str]:
        return {folder.watch.name for folder in self._folders if folder.lost or not folder.scanned}

    def _ring(self) -> None:
        self._hinted = True
        self.bell.set()

    def _listen(self) -> None:
        """Have a living watch on each folder that wants one, before it is scanned."""
        if not self._hints.alive:
            raise RuntimeError("a thread of watchdog died: nothing would be noticed in time")
        for folder in self._folders:
            if not folder.wants_hints:
                self._hints.forget(folder.path)
                folder.hears_hints = False
            elif not self._hints.hears(folder.path):
                folder.hears_hints = self._watch(folder)
                folder.due = 0.0 if folder.hears_hints else folder.due

    def _watch(self, folder: DropFolder) -> bool:
        try:
            self._hints.watch(folder.path, recursive=folder.looks_deeper)
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)  # the scan will say so
            if not missing and folder.path not in self._deaf_told:
                self._deaf_told.add(folder.path)
                reason = error.strerror or os.strerror(error.errno or 0)
                self._announce(events.HintsUnavailable(folder.watch.name, display_name(folder.path), reason))
            return False
        self._deaf_told.discard(folder.path)
        return True

    def _scan(self) -> None:
        if hinted := self._hinted:  # nothing is reset that rings between the two lines
            self._hinted = False
        began = self._clock.monotonic()
        has_room = self._wants_room and self._changes.seen() and self._room() > 0
        looked: list[DropFolder] = []
        finished: list[tuple[Found, DropFolder]] = []
        for folder in self._folders:
            self.sign()
            due = began >= folder.due or (hinted and folder.hears_hints)
            if due or (has_room and folder.has_to_wait_for_room):
                looked.append(folder)
                finished += [(file, folder) for file in folder.look()]
        made = self._take(finished)
        for folder in looked:
            folder.plan_next_look()
            made += folder.jobs_ended + folder.came_back
            folder.jobs_ended, folder.came_back = 0, False
        if made:
            self._wake_worker()
        self._looked = self._looked or bool(looked)
        self.last_scan_at = self._clock.monotonic()

    def _take(self, finished: list[tuple[Found, DropFolder]]) -> int:
        """Queue what is finished, oldest first over all folders, so that none starves another."""
        made = 0
        room = self._room() if finished else 0
        for file, folder in sorted(finished, key=lambda pair: (pair[0].mtime_ns, pair[0].path)):
            self.sign()
            made += folder.take(file, room - made)
        return made

    @property
    def _wants_room(self) -> bool:
        return any(folder.has_to_wait_for_room for folder in self._folders)

    def _room(self) -> int:
        return self._queue_limit - self._store.waiting()

    def _tell_arriving(self) -> None:
        now = self._clock.monotonic()
        if not self._looked or now - self._arriving_at < ARRIVING_SECONDS:
            return
        self._looked, self._arriving_at = False, now
        arriving = {path: file for folder in self._folders for path, file in folder.arriving().items()}
        if arriving != self._arriving_told:
            self._store.set_arriving(arriving)
            self._arriving_told = arriving

    def _rest(self) -> None:
        """Until a folder is due, a hint comes, or the queue has changed; quick hints make one scan."""
        pause = max(SHORTEST_PAUSE_SECONDS, 10 * sum(folder.scan_seconds for folder in self._folders))
        self.sign(pause)
        self._clock.wait(self._stopping, pause)
        now = self._clock.monotonic()
        wait = min([folder.due for folder in self._folders]) - now
        if any(folder.hears_hints for folder in self._folders):
            wait = min(wait, LISTENING_SECONDS)
        if self._wants_room:
            wait = min(wait, ROOM_SECONDS)
        if self._looked:
            wait = min(wait, self._arriving_at + ARRIVING_SECONDS - now)
        board_wait = self._boards.wait()
        if board_wait is not None:
            wait = min(wait, board_wait)
        if not self._hinted and wait > 0:
            self.sign(wait)
            self._clock.wait(self.bell, wait)
        if not self.stopping:
            self.bell.clear()
