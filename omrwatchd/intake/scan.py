"""What lies in a drop folder, as bytes and stat results; nothing is opened."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omrwatchd.lifecycle import Sign, nobody_listens
from omrwatchd.model import file_time
from omrwatchd.sheets.companions import SIDECAR_SUFFIXES
from omrwatchd.sheets.pictures import list_pictures


class FolderLost(Exception):
    """The drop folder itself can't be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file of a wanted name."""

    path: bytes
    size: int
    mtime_ns: int
    inode: int
    beside: int = 0
    """Tells one state of its sidecar from another; 0: it has none."""


@dataclass(frozen=True, slots=True)
class Scan:
    files: tuple[Found, ...]
    unreadable: tuple[tuple[bytes, str], ...]
    """Subfolders that could not be read, with the reason."""
    empty: bool = False
    """Nothing at all lies in the drop folder, whatever its name."""


def is_wanted(name: bytes, ignore: Sequence[str]) -> bool:
    """`*.zip` in any case, and none of the globs for files that are still being made."""
    text = os.fsdecode(name).lower()
    return text.endswith(".zip") and not _matches(text, ignore)


def is_ignored(name: bytes, ignore: Sequence[str]) -> bool:
    """Whether one of the globs for what is still being made, or is none of ours, fits the name."""
    return _matches(os.fsdecode(name).lower(), ignore)


def _matches(lower_name: str, ignore: Sequence[str]) -> bool:
    return _any_of(tuple(ignore)).match(lower_name) is not None


@functools.lru_cache(maxsize=64)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """All globs as one expression: a scan of ten thousand names asks it for each."""
    return re.compile("|".join(fnmatch.translate(glob.lower()) for glob in globs) or "(?!)")


def scan(folder: bytes, *, recursive: bool, ignore: Sequence[str], sign: Sign = nobody_listens) -> Scan:
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
    sidecars: dict[bytes, int] = {}
    empty = not entries
    while entries:  # no recursion: folders may lie deeper than Python calls
        sign()
        entry = entries.pop()
        kind = _kind(entry)
        if kind == stat.S_IFDIR and recursive and not is_ignored(entry.name, ignore):
            entries += _below(entry.path, unreadable)
        elif kind == stat.S_IFREG and is_wanted(entry.name, ignore) and (found := _look(entry)) is not None:
            files.append(found)
        elif kind == stat.S_IFREG and entry.name.endswith(SIDECAR_SUFFIXES):
            _note_sidecar(entry, sidecars)
    return Scan(_with_sidecars(files, sidecars), tuple(unreadable), empty)


def scan_folders(folder: bytes, *, ignore: Sequence[str], sign: Sign = nobody_listens) -> Scan:
    """The folders of pictures in a drop folder, each as one `Found` (see model.Identity).

    Raises:
        FolderLost: with the reason.
    """
    try:
        entries = _listed(folder)
    except OSError as error:
        raise FolderLost(error.strerror or str(error)) from error
    unreadable: list[tuple[bytes, str]] = []
    found: list[Found] = []
    sidecars: dict[bytes, int] = {}
    for entry in entries:
        sign()
        kind = _kind(entry)
        if kind == stat.S_IFREG and entry.name.endswith(SIDECAR_SUFFIXES):
            _note_sidecar(entry, sidecars)
        if kind != stat.S_IFDIR or is_ignored(entry.name, ignore):
            continue
        try:
            pictures = list_pictures(entry.path)
        except FileNotFoundError:
            continue  # gone since it was listed, or changing: the next scan sees it
        except OSError as error:
            unreadable.append((entry.path, error.strerror or str(error)))
            continue
        found.append(Found(entry.path, pictures.size, pictures.mtime_ns, pictures.digest))
    return Scan(_with_sidecars(found, sidecars), tuple(unreadable), not entries)


def _note_sidecar(entry: os.DirEntry[bytes], sidecars: dict[bytes, int]) -> None:
    """Put what it is now under the path that it belongs to; of two kinds both count."""
    seen = _look(entry)
    if seen is not None:
        owner = os.path.splitext(entry.path)[0]
        sidecars[owner] = sidecars.get(owner, 0) ^ hash((seen.path, seen.size, seen.mtime_ns, seen.inode))


def _with_sidecars(files: list[Found], sidecars: dict[bytes, int]) -> tuple[Found, ...]:
    return tuple(
        replace(file, beside=sidecars[file.path]) if file.path in sidecars else file for file in files
    )


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
    return Found(entry.path, seen.st_size, file_time(seen.st_mtime_ns), seen.st_ino)
