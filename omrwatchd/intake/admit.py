"""A settled file, looked into through one descriptor, and put into the queue or refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from omrwatchd.errors import Problem
from omrwatchd.intake.lease import open_for_writing
from omrwatchd.intake.parts import parts_of
from omrwatchd.intake.route import Route, check_count, read_sidecar, route
from omrwatchd.intake.scan import Found, display_name
from omrwatchd.model import Identity, NewJob
from omrwatchd.queue.store import Store
from omrwatchd.settings import Queue, Split, Watch
from omrwatchd.sheets.archive import Archive, check_sheets, read_archive
from omrwatchd.sheets.companions import marker_of, read_beside


@dataclass(frozen=True, slots=True)
class Admitted:
    job: int
    sheets: int
    parts: int


@dataclass(frozen=True, slots=True)
class Refused:
    job: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class NotYet:
    """Another look later may find it finished."""

    why: str
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class NotWhole:
    """It looks finished but is no whole ZIP; nothing but more bytes can mend that."""

    problem: Problem


Outcome = Admitted | Refused | NotYet | NotWhole


class Changed(Exception):
    """The file is not the one that the scan saw."""


class Admission:
    """The door of one drop folder into the queue."""

    def __init__(self, watch: Watch, store: Store, queue: Queue, split: Split) -> None:
        self._watch = watch
        self._store = store
        self._queue = queue
        self._split = split

    def admit(self, found: Found, *, ask_lease: bool) -> Outcome:
        """Look into a settled file and queue it.

        ``ask_lease``: whether this file system's answer about writers can be trusted.
        """
        name = display_name(os.path.basename(found.path))
        if (marker := self._missing_marker(found.path)) is not None:
            return NotYet(f"waiting for its marker {display_name(marker)}")
        try:
            with _opened(found) as descriptor:
                if ask_lease and open_for_writing(descriptor):
                    return NotYet("a program still has it open for writing")
                if found.size == 0:
                    return NotWhole(_empty(name))
                archive = read_archive(descriptor, name)
                _check_same(os.fstat(descriptor), found)
        except Changed:
            return NotYet("it changed while it was looked into")
        except OSError as error:
            return NotYet(f"it can't be read: {error.strerror or error}", unreadable=True)
        except Problem as problem:
            return NotWhole(problem)
        return self._decide(found, name, archive)

    def _missing_marker(self, path: bytes) -> bytes | None:
        """The name of the file that must be there beside the ZIP, when it is not."""
        if self._watch.done_marker is None:
            return None
        marker = marker_of(path, self._watch.done_marker)
        return None if os.path.lexists(marker) else os.path.basename(marker)

    def _decide(self, found: Found, name: str, archive: Archive) -> Outcome:
        job = self._job(found, name, archive)
        try:
            check_sheets(archive, name)
            routed = self._route(found.path, name)
            check_count(name, routed.sheets, archive.sheets)
            self._check_new(job)
        except Problem as problem:
            return Refused(self._store.refuse(job, problem), problem)
        job = replace(job, metadata=routed.metadata)
        return Admitted(self._store.admit(job), job.sheets, len(job.parts))

    def _job(self, found: Found, name: str, archive: Archive) -> NewJob:
        return NewJob(
            path=found.path,
            name=name,
            watch=self._watch.name,
            identity=Identity(found.size, found.mtime_ns, found.inode),
            metadata=self._watch.metadata,
            sheets=archive.sheets,
            fingerprint=archive.fingerprint,
            parts=parts_of(name, archive, self._split),
        )

    def _route(self, path: bytes, name: str) -> Route:
        sidecar, sidecar_name = None, ""
        beside = read_beside(path)
        if beside is not None:
            sidecar_name = display_name(os.path.basename(beside.path))
            sidecar = read_sidecar(beside.text, sidecar_name)
        relative = os.path.relpath(path, os.fsencode(self._watch.drop))
        return route(
            name,
            sidecar,
            sidecar_name,
            os.fsdecode(relative),
            self._watch.pattern,
            self._watch.metadata,
        )

    def _check_new(self, job: NewJob) -> None:
        """The same content is not delivered twice, whatever its name.

        Raises:
            Problem: ``duplicate``, naming the earlier batch.
        """
        if self._queue.duplicates == "upload" or job.fingerprint is None:
            return
        earlier = self._store.delivered_before(job.fingerprint)
        if earlier is not None:
            raise Problem(
                "duplicate",
                f"{job.name} was delivered before, as {earlier.name} (batch {', '.join(earlier.batch_ids)}).",
                "Nothing is owed if it is the same exam; else scan it again.",
            )

    def refuse(self, found: Found, problem: Problem) -> Refused:
        """Give a file up; the worker files it under failed/ with the reason."""
        job = NewJob(
            path=found.path,
            name=display_name(os.path.basename(found.path)),
            watch=self._watch.name,
            identity=Identity(found.size, found.mtime_ns, found.inode),
            metadata=self._watch.metadata,
        )
        return Refused(self._store.refuse(job, problem), problem)


def _empty(name: str) -> Problem:
    return Problem("empty_file", f"{name} is empty (0 bytes).", "Scan or copy it again.")


@contextmanager
def _opened(found: Found) -> Iterator[int]:
    """No link is followed, and a FIFO put in its place can't block us."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(found.path, flags)
    try:
        _check_same(os.fstat(descriptor), found)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_same(now: os.stat_result, found: Found) -> None:
    same = (now.st_size, now.st_mtime_ns, now.st_ino) == (found.size, found.mtime_ns, found.inode)
    if not (same and stat.S_ISREG(now.st_mode)):
        raise Changed
