"""What is inside a settled file or folder, read through descriptors that follow no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omrwatchd.errors import Problem
from omrwatchd.intake.lease import open_for_writing
from omrwatchd.intake.parts import parts_of, picture_parts
from omrwatchd.intake.scan import Found, is_ignored
from omrwatchd.model import NewPart, display_name, file_time
from omrwatchd.settings import Split, Watch
from omrwatchd.sheets.archive import check_sheets, read_archive
from omrwatchd.sheets.pictures import Pictures, PictureSet, list_pictures
from omrwatchd.sheets.source import SourceChanged

WRITER = "a program still has it open for writing"


class Unfinished(Exception):
    """Another look later may find it finished; the words say why."""


class Changed(Unfinished):
    """It is not what the scan saw."""

    def __init__(self) -> None:
        super().__init__("it changed while it was looked into")


@dataclass(frozen=True, slots=True)
class Content:
    """A whole ZIP, or a folder of whole pictures."""

    sheets: int
    fingerprint: str
    parts: tuple[NewPart, ...]
    problem: Problem | None
    """Why it can't be delivered although it is whole."""


def inspect_zip(found: Found, split: Split, *, ask_lease: bool) -> Content:
    """Look into a ZIP.

    Raises:
        Unfinished: a writer has it, or it changed.
        Problem: it is no whole ZIP; nothing but more bytes can mend that.
        OSError: it can't be read.
    """
    name = display_name(os.path.basename(found.path))
    with _opened_file(found) as descriptor:
        if ask_lease and open_for_writing(descriptor):
            raise Unfinished(WRITER)
        if found.size == 0:
            raise Problem("empty_file", f"{name} is empty (0 bytes).", "Scan or copy it again.")
        archive = read_archive(descriptor, name)
        _check_same(os.fstat(descriptor), found)
    problem = None
    try:
        check_sheets(archive, name)
    except Problem as found_problem:
        problem = found_problem
    return Content(archive.sheets, archive.fingerprint, parts_of(name, archive, split), problem)


def inspect_folder(found: Found, watch: Watch, split: Split, limit: int, *, ask_lease: bool) -> Content:
    """Look into a folder of pictures, and read all of it for its fingerprint.

    ``limit``: bytes of one request.

    Raises:
        Unfinished, Problem, OSError: as inspect_zip does.
    """
    name = display_name(os.path.basename(found.path))
    pictures = list_pictures(found.path)
    if (pictures.size, pictures.mtime_ns, pictures.digest) != (found.size, found.mtime_ns, found.inode):
        raise Changed
    _check_whole(name, pictures, watch)
    with _opened_folder(found.path) as descriptor:
        chosen = PictureSet(descriptor, pictures.entries)
        try:
            if ask_lease:
                _check_writers(chosen)
            fingerprint = chosen.fingerprint()
        except SourceChanged as change:
            raise Changed from change
    problem = None
    parts: tuple[NewPart, ...] = ()
    try:
        parts = picture_parts(name, pictures.entries, split, limit)
    except Problem as too_large:
        problem = too_large
    return Content(len(pictures.entries), fingerprint, parts, problem)


def _check_whole(name: str, pictures: Pictures, watch: Watch) -> None:
    for other in pictures.others:
        if not other.startswith(b".") and is_ignored(other, watch.ignore):
            raise Unfinished(f"{display_name(other)} in it is still being written")
    if pictures.folders:
        inner = display_name(pictures.folders[0])
        raise Problem(
            "nested_folder",
            f"{name} holds a folder ({inner}); its pictures must lie directly in it.",
            "Move them up, or drop each folder by itself.",
        )
    if not pictures.entries:
        raise Problem("no_sheets", f"There are no pictures in {name}.", "Put the scanned pictures into it.")
    for picture in pictures.entries:
        if picture.size == 0:
            summary = f"{display_name(picture.name)} in {name} is empty (0 bytes)."
            raise Problem("empty_file", summary, "Scan or copy it again.")


def _check_writers(pictures: PictureSet) -> None:
    for picture in pictures.entries:
        descriptor = pictures.open(picture)
        try:
            if open_for_writing(descriptor):
                raise Unfinished(WRITER)
        finally:
            os.close(descriptor)


@contextmanager
def _opened_file(found: Found) -> Iterator[int]:
    """No link is followed, and a FIFO put in its place can't block us."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(found.path, flags)
    except BlockingIOError:  # a file server's client has a write lease on it (an oplock, a delegation)
        raise Unfinished(WRITER) from None
    try:
        _check_same(os.fstat(descriptor), found)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_folder(path: bytes) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_same(now: os.stat_result, found: Found) -> None:
    same = (now.st_size, file_time(now.st_mtime_ns), now.st_ino) == (found.size, found.mtime_ns, found.inode)
    if not (same and stat.S_ISREG(now.st_mode)):
        raise Changed
