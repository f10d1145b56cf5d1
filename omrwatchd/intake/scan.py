"""What lies in a drop folder, as bytes and stat results; nothing is opened."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass


class FolderLost(Exception):
    """The drop folder itself can't be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file of a wanted name."""

    path: bytes
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Scan:
    files: tuple[Found, ...]
    unreadable: tuple[tuple[bytes, str], ...]
    """Subfolders that could not be read, with the reason."""


def display_name(name: bytes) -> str:
    """A file's name as text that any log and terminal can bear: no control characters, valid UTF-8."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_wanted(name: bytes, ignore: Sequence[str]) -> bool:
    """`*.zip` in any case, and none of the globs for files that are still being made."""
    text = os.fsdecode(name).lower()
    return text.endswith(".zip") and not _ignored(text, ignore)


def _ignored(lower_name: str, ignore: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(lower_name, pattern.lower()) for pattern in ignore)


def scan(folder: bytes, *, recursive: bool, ignore: Sequence[str]) -> Scan:
    """Look at every entry once; one that vanishes or can't be read never hides the others.

    Raises:
        FolderLost: with the reason.
    """
    try:
        entries = _listed(folder)
    except OSError as error:
        raise FolderLost(error.strerror or str(error)) from error
    unreadable: list[tuple[bytes, str]] = []
    files: list[Found] = []
    while entries:  # no recursion: folders may lie deeper than Python calls
        entry = entries.pop()
        kind = _kind(entry)
        if kind == stat.S_IFDIR and recursive and not _ignored(os.fsdecode(entry.name).lower(), ignore):
            entries += _below(entry.path, unreadable)
        elif kind == stat.S_IFREG and is_wanted(entry.name, ignore) and (found := _look(entry)) is not None:
            files.append(found)
    return Scan(tuple(files), tuple(unreadable))


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _below(folder: bytes, unreadable: list[tuple[bytes, str]]) -> list[os.DirEntry[bytes]]:
    try:
        return _listed(folder)
    except FileNotFoundError:
        return []  # gone since it was listed
    except OSError as error:
        unreadable.append((folder, error.strerror or str(error)))
        return []


def _kind(entry: os.DirEntry[bytes]) -> int | None:
    """Mostly known from the listing; some file systems need a stat for it, which may fail."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file(follow_symlinks=False) else None
    except OSError:
        return None


def _look(entry: os.DirEntry[bytes]) -> Found | None:
    try:
        seen = entry.stat(follow_symlinks=False)
    except OSError:
        return None  # gone since the listing
    if not stat.S_ISREG(seen.st_mode):
        return None
    return Found(entry.path, seen.st_size, seen.st_mtime_ns, seen.st_ino)
