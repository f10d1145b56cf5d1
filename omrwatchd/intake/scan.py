"""What lies in a drop folder, as bytes and stat results; nothing is opened."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
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
    unreadable: list[tuple[bytes, str]] = []
    try:
        files = list(_walk(folder, recursive, ignore, unreadable))
    except OSError as error:
        raise FolderLost(error.strerror or str(error)) from error
    return Scan(tuple(files), tuple(unreadable))


def _walk(
    folder: bytes, recursive: bool, ignore: Sequence[str], unreadable: list[tuple[bytes, str]]
) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            if recursive and not _ignored(os.fsdecode(entry.name).lower(), ignore):
                yield from _subfolder(entry.path, ignore, unreadable)
        elif is_wanted(entry.name, ignore) and (found := _look(entry)) is not None:
            yield found


def _subfolder(folder: bytes, ignore: Sequence[str], unreadable: list[tuple[bytes, str]]) -> Iterator[Found]:
    try:
        yield from _walk(folder, True, ignore, unreadable)
    except FileNotFoundError:
        return
    except OSError as error:
        unreadable.append((folder, error.strerror or str(error)))


def _look(entry: os.DirEntry[bytes]) -> Found | None:
    try:
        seen = entry.stat(follow_symlinks=False)
    except OSError:
        return None  # gone since the listing
    if not stat.S_ISREG(seen.st_mode):
        return None
    return Found(entry.path, seen.st_size, seen.st_mtime_ns, seen.st_ino)
