"""Files that belong to a ZIP and travel with it: its sidecar and its completion marker."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from omrwatchd.errors import Problem

SIDECAR_SUFFIXES = (b".toml", b".json")
LARGEST_SIDECAR = 64 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A sidecar and what it says."""

    path: bytes
    text: str


def marker_of(path: bytes, done_marker: str) -> bytes:
    """The completion marker of a ZIP: ``{name}`` in ``done_marker`` stands for its file name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, os.fsencode(done_marker).replace(b"{name}", name))


def companions_of(path: bytes, done_marker: str | None) -> list[bytes]:
    """Those that are there now."""
    paths = [path + suffix for suffix in SIDECAR_SUFFIXES]
    if done_marker is not None:
        paths.append(marker_of(path, done_marker))
    return [found for found in paths if _is_file(found)]


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def read_beside(path: bytes) -> Beside | None:
    """The sidecar of a ZIP; None when it has none.

    Raises:
        Problem: ``sidecar_invalid``: it is there but no small text file.
    """
    for suffix in SIDECAR_SUFFIXES:
        if os.path.lexists(path + suffix):
            return Beside(path + suffix, _read(path + suffix))
    return None


def _read(path: bytes) -> str:
    name = os.path.basename(path).decode("utf-8", "backslashreplace")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_SIDECAR:
                raise Problem("sidecar_invalid", f"{name} is no small text file.", "Replace or remove it.")
            return os.read(descriptor, LARGEST_SIDECAR).decode("utf-8-sig")
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Problem(
            "sidecar_invalid", f"{name} can't be read: {reason}.", "Replace or remove it."
        ) from None
