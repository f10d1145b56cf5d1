"""A settled file, looked into through one descriptor, and put into the queue or refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omrwatchd.errors import Problem
from omrwatchd.intake.lease import open_for_writing
from omrwatchd.intake.scan import Found, display_name
from omrwatchd.model import Identity, NewJob, NewPart
from omrwatchd.queue.store import Store
from omrwatchd.settings import Watch
from omrwatchd.sheets.archive import Archive, check_sheets, read_archive


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


def admit(found: Found, watch: Watch, store: Store, *, ask_lease: bool) -> Outcome:
    """Look into a settled file and queue it.

    ``ask_lease``: whether this file system's answer about writers can be trusted.
    """
    name = display_name(os.path.basename(found.path))
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
    return _queue(found, watch, store, name, archive)


def _empty(name: str) -> Problem:
    return Problem("empty_file", f"{name} is empty (0 bytes).", "Scan or copy it again.")


def _queue(found: Found, watch: Watch, store: Store, name: str, archive: Archive) -> Outcome:
    job = NewJob(
        path=found.path,
        name=name,
        watch=watch.name,
        identity=Identity(found.size, found.mtime_ns, found.inode),
        metadata=watch.metadata,
        sheets=archive.sheets,
        fingerprint=archive.fingerprint,
        parts=parts_of(name, archive),
    )
    try:
        check_sheets(archive, name)
    except Problem as problem:
        return Refused(store.refuse(job, problem), problem)
    return Admitted(store.admit(job), job.sheets, len(job.parts))


def refuse(found: Found, watch: Watch, store: Store, problem: Problem) -> Refused:
    """Give a file up; the worker files it under failed/ with the reason."""
    job = NewJob(
        path=found.path,
        name=display_name(os.path.basename(found.path)),
        watch=watch.name,
        identity=Identity(found.size, found.mtime_ns, found.inode),
        metadata=watch.metadata,
    )
    return Refused(store.refuse(job, problem), problem)


def parts_of(name: str, archive: Archive) -> tuple[NewPart, ...]:
    """The batches to be made from a file: it goes as it is."""
    return (NewPart(name, archive.sheets, archive.size, whole=True, stop_sheet=archive.sheets),)


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
