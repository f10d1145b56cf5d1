"""One drop folder: what lies in it, how far each file is, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from omrwatchd import events
from omrwatchd.clock import Clock, local_time
from omrwatchd.errors import Problem
from omrwatchd.events import Announce
from omrwatchd.intake import settle
from omrwatchd.intake.admit import Admission, Admitted, NotWhole, NotYet, Outcome, Refused
from omrwatchd.intake.presence import Presence
from omrwatchd.intake.queued import QueuedFiles
from omrwatchd.intake.rights import unwritable
from omrwatchd.intake.scan import FolderLost, Found, Scan, scan, scan_folders
from omrwatchd.intake.scout import Scout
from omrwatchd.intake.settle import Observation, Rules, Track, Verdict
from omrwatchd.lifecycle import Sign, nobody_listens
from omrwatchd.model import Arriving, UploadType, display_name
from omrwatchd.queue.store import AlreadyQueued, Store
from omrwatchd.settings import Watch

SETTLE_SECONDS, SETTLE_SECONDS_NETWORK = 5.0, 10.0
RESCAN_SECONDS, RESCAN_SECONDS_WITHOUT_HINTS = 30.0, 5.0
LONGEST_RESCAN_SECONDS = 600.0
SHARE_OF_TIME = 0.0005
"""Of a core, for rescans of a folder whose hints are heard: thousands of files that wait cost no more."""
STILL_GROWING_SECONDS = 20 * 60.0
ASK_AGAIN_SECONDS = 2.0

_WAITING = {
    Verdict.EMPTY: "empty so far",
    Verdict.GROWING: "still growing since {since}",
    Verdict.SETTLING: "waiting until it is finished",
}


@dataclass(slots=True)
class Arrival:
    """A file on its way in."""

    track: Track
    since: str
    """When it was first seen: local time, for people."""
    why: str = "seen"
    looked_into: Observation | None = None
    """What was found to be no whole ZIP: not looked into again before it changes."""
    needs_room: bool = False
    growth_told: float | None = None
    ask_again: bool = False
    """Settled, but open in a writer."""
    unreadable: bool = False
    unreadable_told: bool = False


class DropFolder:
    """The state of one [[watch]]; used on the intake thread alone."""

    def __init__(
        self, watch: Watch, admission: Admission, store: Store, clock: Clock, announce: Announce
    ) -> None:
        self.watch = watch
        self._admission = admission
        self.path = os.fsencode(watch.drop)
        self._store = store
        self._clock = clock
        self._announce = announce
        self._presence = Presence(self.path)
        self._scout = Scout(self._visit, clock)
        self._queued = QueuedFiles(watch, store, announce, admission.sorts_otherwise)
        self._arrivals: dict[bytes, Arrival] = {}
        self._unreadable: frozenset[bytes] = frozenset()
        self.scanned = False
        """Whether a whole scan has been made."""
        self.due = 0.0
        """When to look again (monotonic seconds), hints aside."""
        self.hears_hints = False
        self.scan_seconds = 0.0
        """What the last scan took of the intake thread, without the looks into files."""
        self.jobs_ended = 0
        """Of queued files that were found to be gone."""
        self.came_back = False
        """Queued files of it can be delivered again."""
        self._looked_at = 0.0
        self._expecting = True  # a value, for `quiet` is asked by other threads

    @property
    def lost(self) -> bool:
        return self._presence.lost

    def away(self, *, look: bool) -> str | None:
        """Why a queued file of it that is missing is not to be taken for removed; for other threads.

        ``look``: not by what the last scan saw, but by how it is now.
        """
        return self._presence.away(look=look)

    @property
    def wants_hints(self) -> bool:
        """Asked again and again: a share may be mounted here after the start."""
        mount = self._presence.mount
        if self.watch.observer == "auto":
            return mount is None or mount.gives_hints
        return self.watch.observer == "hints"

    @property
    def looks_deeper(self) -> bool:
        """What happens in its subfolders matters, too."""
        return self.watch.recursive or self.watch.upload_type is UploadType.IMAGES

    @property
    def quiet(self) -> bool:
        """Scanned, and nothing in it that may still be delivered."""
        return self.scanned and not self.lost and not self._expecting

    def _may_come(self, arrival: Arrival) -> bool:
        """All but what can't be read for give_up_seconds: it stays, but a drain does not wait for it."""
        return not (arrival.unreadable and settle.gave_up(arrival.track, self._rules))

    @property
    def has_to_wait_for_room(self) -> bool:
        """A finished file lies here that the full queue could not take."""
        return not self.lost and any(arrival.needs_room for arrival in self._arrivals.values())

    def arriving(self) -> dict[bytes, Arriving]:
        return {
            path: Arriving(display_name(os.path.basename(path)), arrival.track.latest.size, arrival.why)
            for path, arrival in self._arrivals.items()
        }

    @property
    def _is_network(self) -> bool:
        return self._presence.mount is not None and self._presence.mount.is_network

    @property
    def _asks_lease(self) -> bool:
        """Only where the answer is known to be right: an NFS client says 'open' of closed files, too."""
        return self._presence.mount is not None and self._presence.mount.gives_hints

    @property
    def _rules(self) -> Rules:
        default = SETTLE_SECONDS_NETWORK if self._is_network else SETTLE_SECONDS
        return Rules(self.watch.settle_seconds or default, self.watch.give_up_seconds)

    @property
    def _rescan_seconds(self) -> float:
        if self.watch.rescan_seconds is not None:
            return self.watch.rescan_seconds
        if not self.hears_hints:
            return RESCAN_SECONDS_WITHOUT_HINTS
        return min(LONGEST_RESCAN_SECONDS, max(RESCAN_SECONDS, self.scan_seconds / SHARE_OF_TIME))

    def look(self) -> list[Found]:
        """Scan; the files that scans can tell nothing more about, to be given to `take`."""
        began = self._clock.monotonic()
        self._looked_at = began
        try:
            found, began = self._scan()
        except FolderLost as loss:
            self._report_lost(str(loss), began)
            return []
        self._report_back()
        ended = self._clock.monotonic()
        by_path = {file.path: file for file in found}
        self.jobs_ended += self._queued.check(by_path, self._looked_at, self._rules.settle_seconds)
        queued = self._store.open_paths()
        files = [file for file in found if file.path not in queued]
        self._forget_others({file.path for file in files})
        settled = [file for file in files if self._observe(file, began, ended)]
        self.came_back |= not self.scanned
        self.scanned = True
        self.scan_seconds = self._clock.monotonic() - self._looked_at  # not since a hanging look began
        return settled

    def plan_next_look(self) -> None:
        """After a look, and after what it found was taken."""
        if self.lost:
            return
        self._expecting = any(map(self._may_come, self._arrivals.values()))
        now = self._looked_at
        self.due = min([now + self._rescan_seconds, *self._dues(now)])

    def _scan(self) -> tuple[tuple[Found, ...], float]:
        """What lies in the folder, and when the look began."""
        if self._is_network:
            (result, remounted), began = self._scout.look()
        else:
            began = self._looked_at
            result, remounted = self._visit(nobody_listens)
        if remounted:
            self._announce(events.DropFolderRemounted(self.watch.name, display_name(self.path)))
        unreadable = frozenset(path for path, _ in result.unreadable)
        for path, reason in result.unreadable:
            if path not in self._unreadable:
                self._announce(events.FileUnreadable(self.watch.name, display_name(path), reason))
        self._unreadable = unreadable
        return result.files, began

    def _visit(self, sign: Sign) -> tuple[Scan, bool]:
        """List it, and whether another mount holds it than before; touches nothing that others use."""
        # what turns read-only later is delivered, and filed when that is mended; a start has no such debts
        if not self.scanned and os.path.isdir(self.path) and (folder := unwritable(self.watch)) is not None:
            raise FolderLost(f"{folder} can't be written by this user")
        if self.watch.upload_type is UploadType.IMAGES:
            result = scan_folders(self.path, ignore=self.watch.ignore, sign=sign)
        else:
            recursive = self.watch.recursive
            result = scan(self.path, recursive=recursive, ignore=self.watch.ignore, sign=sign)
        barren = result.empty and self._queued.any_waiting
        return result, self._presence.check(barren=barren)

    def _report_lost(self, reason: str, now: float) -> None:
        if not self.lost:
            self._announce(events.DropFolderLost(self.watch.name, display_name(self.path), reason))
        self._expecting = True
        self.due = now + self._presence.missed(reason)

    def _report_back(self) -> None:
        if self._presence.seen():
            self.came_back = True
            self._announce(events.DropFolderBack(self.watch.name, display_name(self.path)))

    def _forget_others(self, paths: set[bytes]) -> None:
        for path in self._arrivals.keys() - paths:
            del self._arrivals[path]

    def _dues(self, now: float) -> list[float]:
        """When settled or given-up files are due; what waits for room is woken by the loop."""
        rules = self._rules
        moments = [settle.due(arrival.track, rules) for arrival in self._arrivals.values()]
        moments += self._queued.dues(rules.settle_seconds)
        if any(arrival.ask_again for arrival in self._arrivals.values()):
            moments.append(now + ASK_AGAIN_SECONDS)
        return [moment for moment in moments if moment > now]

    # one file

    def _observe(self, file: Found, began: float, ended: float) -> bool:
        """Note how the file is; whether scans can tell nothing more about it.

        The scan saw it at some moment from ``began`` to ``ended``: each counts where it is the less patient.
        """
        arrival = self._arrivals.get(file.path)
        seen = Observation(began, file.size, file.mtime_ns, file.inode, file.beside)
        if arrival is None:
            track = settle.observe(None, replace(seen, at=ended))
            arrival = Arrival(track, local_time(self._clock.now()))
            self._arrivals[file.path] = arrival
            self._announce(
                events.FileArriving(self.watch.name, display_name(os.path.basename(file.path)), file.size)
            )
        else:
            same = arrival.track.latest.same_content(seen)
            arrival.track = settle.observe(arrival.track, seen if same else replace(seen, at=ended))
        state = settle.verdict(arrival.track, self._rules)
        if state is Verdict.SETTLED or (
            state is Verdict.EMPTY and settle.gave_up(arrival.track, self._rules)
        ):
            return True
        arrival.needs_room = arrival.ask_again = arrival.unreadable = False
        arrival.why = _WAITING[state].format(since=arrival.since)
        self._tell_growth(file, arrival)
        return False

    def take(self, file: Found, room: int) -> int:
        """Queue or refuse what `look` found, while there is ``room`` (jobs); how many rows were made."""
        arrival = self._arrivals.get(file.path)
        return 0 if arrival is None else self._take(file, arrival, room)

    def _take(self, file: Found, arrival: Arrival, room: int) -> int:
        """Look into a settled file: once for each content it has, and again before it is given up.

        The last look is for the writer that still has it open, and for bytes that came under an old mtime.
        """
        known = arrival.looked_into is not None and arrival.looked_into.same_content(arrival.track.latest)
        if known and not settle.gave_up(arrival.track, self._rules):
            return 0
        arrival.needs_room = room <= 0 and not known and file.size > 0  # a refusal takes no room
        if arrival.needs_room:
            arrival.why = "the queue is full"
            return 0
        try:
            outcome = self._admission.admit(file, ask_lease=self._asks_lease)
        except AlreadyQueued:
            return 0
        return self._draw_consequence(file, arrival, outcome)

    def _draw_consequence(self, file: Found, arrival: Arrival, outcome: Outcome) -> int:
        name = display_name(os.path.basename(file.path))
        arrival.unreadable = isinstance(outcome, NotYet) and outcome.unreadable
        arrival.ask_again = isinstance(outcome, NotYet) and outcome.ask_again
        if isinstance(outcome, NotYet):
            arrival.why = outcome.why
            if outcome.unreadable and not arrival.unreadable_told:
                arrival.unreadable_told = True
                self._announce(events.FileUnreadable(self.watch.name, name, outcome.why))
            return 0
        if isinstance(outcome, NotWhole):
            arrival.looked_into = arrival.track.latest
            arrival.why = outcome.problem.summary
            if settle.gave_up(arrival.track, self._rules):
                return self._give_up(file, outcome.problem)
            return 0
        del self._arrivals[file.path]
        if isinstance(outcome, Admitted):
            seconds = round(arrival.track.latest.at - arrival.track.first_seen, 3)
            self._announce(
                events.FileQueued(outcome.job, name, file.size, outcome.sheets, outcome.parts, seconds)
            )
        else:
            self._tell_refusal(file, outcome)
        return 1

    def _give_up(self, file: Found, problem: Problem) -> int:
        try:
            refused = self._admission.refuse(file, problem)
        except AlreadyQueued:
            return 0
        self._arrivals.pop(file.path, None)
        self._tell_refusal(file, refused)
        return 1

    def _tell_refusal(self, file: Found, refused: Refused) -> None:
        name = display_name(os.path.basename(file.path))
        problem = refused.problem
        self._announce(events.FileRefused(refused.job, name, file.size, problem.code, problem.summary))

    def _tell_growth(self, file: Found, arrival: Arrival) -> None:
        """A growing file is never given up on, only spoken of."""
        told = arrival.growth_told or arrival.track.first_seen
        now = arrival.track.latest.at
        if now - told < STILL_GROWING_SECONDS:
            return
        arrival.growth_told = now
        minutes = round((now - arrival.track.first_seen) / 60)
        name = display_name(os.path.basename(file.path))
        self._announce(events.FileStillGrowing(self.watch.name, name, file.size, minutes))
