"""From the drop folder to done/ or failed/: planned, moved, confirmed; never overwriting."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime

from omrwatchd.clock import Clock
from omrwatchd.delivery.error_text import ERROR_SUFFIX, remove_error_text, write_error_text
from omrwatchd.delivery.moving import (
    NAME_MAX,
    cut,
    discard,
    is_empty,
    is_folder,
    is_same,
    make_empty,
    move,
    moved_out,
)
from omrwatchd.delivery.opening import holds
from omrwatchd.lifecycle import Sign, nobody_listens
from omrwatchd.model import Job
from omrwatchd.queue.store import Store
from omrwatchd.settings import Watch
from omrwatchd.sheets.companions import companions_of
from omrwatchd.sheets.pictures import list_pictures

Away = Callable[[str, bool], str | None]
"""Why the drop folder of a watch (by its name) can't be trusted now; None when it is there.

True: look now; False: as far as is known without touching it.
"""


class FilingDelayed(Exception):
    """The file could not be moved now; nothing is lost, it is tried again."""


class Filing:
    """Moves files whose jobs have ended."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        watch_named: Callable[[str], Watch | None],
        away: Away = lambda _watch, _look: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._watch_named = watch_named
        self._away = away
        self.sign: Sign = nobody_listens
        """Called in the middle of long copies: whoever files is at work, not stuck."""

    def file(self, job: Job, *, delivered: bool) -> bytes:
        """Bring the file where it belongs and record it; the path where it is then.

        Raises:
            FilingDelayed: with the reason, in words.
        """
        try:
            target = self._place(job, delivered=delivered)
            self._bring_companions(job, target)
            if delivered:
                remove_error_text(job.path)
            else:
                write_error_text(job, target, self._clock.now())
        except OSError as error:
            where = os.fsdecode(error.filename) if error.filename else job.name
            raise FilingDelayed(f"{where}: {error.strerror or error}") from error
        self._store.filed(job, target)
        return target

    def _place(self, job: Job, *, delivered: bool) -> bytes:
        if not _is_the_file(job, job.path):
            if job.filing_target is not None and _has_arrived(job, job.filing_target):
                discard(moved_out(job.path))
                return job.filing_target  # moved already, before we could record it
            if (reason := self._away(job.watch, True)) is not None:
                where = os.fsdecode(os.path.dirname(job.path))
                raise FilingDelayed(f"the drop folder {where} is away: {reason}")
            return job.path  # gone, or another file by now: that one is not ours to move
        folder = self._folder(job, delivered=delivered)
        if os.path.dirname(job.path) == folder:
            return job.path
        os.makedirs(folder, mode=0o770, exist_ok=True)
        target = self._reserve(folder, job, delivered=delivered)
        try:
            move(job.path, target, self.sign)
        except OSError:
            _give_up_reservation(job.path, target)
            raise
        return target

    def _reserve(self, folder: bytes, job: Job, *, delivered: bool) -> bytes:
        """Make an empty file (or folder) of ours under a free name; a rename onto it overwrites nothing.

        The name is committed before it is taken: after a crash between the two it is known for ours.
        """
        name, now = os.path.basename(job.path), self._clock.now()
        own = name if delivered else _fitting(name)
        names = [own, _renamed(name, job, now, 0), _renamed(name, job, now, 1)]
        if job.filing_target is not None and os.path.dirname(job.filing_target) == folder:
            names.insert(0, os.path.basename(job.filing_target))
        for candidate in names:
            target = os.path.join(folder, candidate)
            if target == job.filing_target and os.path.lexists(target):
                if is_empty(target) or is_same(job.path, target, self.sign):
                    return target  # of an earlier try of ours: reserved, or a copy that is whole already
                continue
            if os.path.lexists(target):
                continue
            self._store.note(job.id, filing_target=target)
            with contextlib.suppress(FileExistsError):
                make_empty(target, is_folder=is_folder(job.path))
                return target
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.path.join(folder, name))

    def _bring_companions(self, job: Job, target: bytes) -> None:
        """Sidecar and marker follow their ZIP; those of a newer ZIP of the same name stay with it."""
        watch = self._watch_named(job.watch)
        if watch is None or target == job.path or os.path.lexists(job.path):
            return
        folder, name = os.path.split(target)
        old_name = os.path.basename(job.path)
        for companion in companions_of(job.path, watch.done_marker):
            wanted = os.path.basename(companion).replace(old_name, name)
            place = os.path.join(folder, wanted)
            if os.path.lexists(place) and not is_same(companion, place, self.sign):
                place = os.path.join(folder, _renamed(wanted, job, self._clock.now(), 0))
            move(companion, place, self.sign)

    def _folder(self, job: Job, *, delivered: bool) -> bytes:
        watch = self._watch_named(job.watch)
        if watch is None:
            raise FilingDelayed(f"no [[watch]] is named {job.watch!r} any more")
        return os.fsencode(watch.done_folder if delivered else watch.failed_folder)


def _is_the_file(job: Job, path: bytes) -> bool:
    try:
        return holds(job, path)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _has_arrived(job: Job, target: bytes) -> bool:
    """Whether a move has brought the file to its target, which was ours.

    Of a copy's time nothing is asked: some file systems keep it by the second, or by two.
    """
    try:
        if is_folder(target):
            return list_pictures(target).size == job.identity.size
        return os.lstat(target).st_size == job.identity.size
    except (FileNotFoundError, NotADirectoryError):
        return False


def _give_up_reservation(source: bytes, target: bytes) -> None:
    """Take our empty place away again, if what was to come there still is where it was."""
    with contextlib.suppress(OSError):  # an empty place is used again by the next try
        if os.path.lexists(source) and is_empty(target):
            shutil.rmtree(target) if is_folder(target) else os.unlink(target)


def _renamed(name: bytes, job: Job, now: float, salt: int) -> bytes:
    """A name with a timestamp and a short hash before its suffix."""
    when = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S").encode()
    digest = hashlib.sha256(f"{job.id}-{now}-{salt}".encode()).hexdigest()[:6].encode()
    stem, suffix = os.path.splitext(name)
    return _fitting(stem, b"." + when + b"-" + digest + suffix)


def _fitting(stem: bytes, end: bytes = b"") -> bytes:
    """Shortened where needed, so that the error text beside it has a name as well."""
    if not end:
        stem, end = os.path.splitext(stem)
    return cut(stem, NAME_MAX - len(end) - len(ERROR_SUFFIX)) + end
