"""A file or a folder to another place, whole or not at all, also across file systems."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import BinaryIO

from omrwatchd.lifecycle import Sign

NAME_MAX = 255
"""Bytes of a file name (limits.h)."""
COPY_BLOCK = 8 * 1024 * 1024
"""Bytes; after each a copy across file systems gives a sign of life."""


def cut(name: bytes, length: int) -> bytes:
    """At most ``length`` bytes of it, and no half of a UTF-8 character at the end."""
    while length < len(name) and length > 0 and name[length] & 0xC0 == 0x80:
        length -= 1
    return name[:length]


def move(source: bytes, target: bytes, sign: Sign) -> None:
    """Rename; across file systems copy, fsync, verify, rename, unlink.

    ``target`` is free, an empty place of ours, or (is_same) the copy of an earlier try. Raises OSError.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, target, sign)
        _remove(source)
    for folder in {os.path.dirname(source), os.path.dirname(target)}:
        _sync_folder(folder)


def moved_out(source: bytes) -> bytes:
    folder, name = os.path.split(source)
    return os.path.join(folder, b"." + cut(name, NAME_MAX - 7) + b".moved")


def _remove(source: bytes) -> None:
    """At once: of a folder that is half removed, intake would make a batch of what is left."""
    if not is_folder(source):
        os.unlink(source)
        return
    discard(moved_out(source))
    os.rename(source, moved_out(source))
    discard(moved_out(source))


def discard(path: bytes) -> None:
    if os.path.lexists(path):
        shutil.rmtree(path) if is_folder(path) else os.unlink(path)


def _copy_over(source: bytes, target: bytes, sign: Sign) -> None:
    folder, name = os.path.split(target)
    if os.path.lexists(target) and not is_empty(target):
        return  # by the caller's word it is the copy already
    copy = os.path.join(folder, b"." + cut(name, NAME_MAX - 10) + b".copying")
    try:
        _copy_folder(source, copy, sign) if is_folder(source) else _copy_file(source, copy, sign)
        os.rename(copy, target)
    except OSError:
        discard(copy)
        raise
    _sync_folder(folder)


def _copy_folder(source: bytes, copy: bytes, sign: Sign) -> None:
    """A folder of pictures with all that lies in it."""
    if os.path.lexists(copy):
        shutil.rmtree(copy)  # of a try that a crash ended
    os.mkdir(copy, 0o770)
    for name in os.listdir(source):
        below, copied = os.path.join(source, name), os.path.join(copy, name)
        _copy_folder(below, copied, sign) if is_folder(below) else _copy_file(below, copied, sign)
    _sync_folder(copy)


def _copy_file(source: bytes, copy: bytes, sign: Sign) -> None:
    """Copied, on disk, and compared byte by byte."""
    if os.path.islink(source):
        shutil.copyfile(source, copy, follow_symlinks=False)
        shutil.copystat(source, copy, follow_symlinks=False)
        return
    origin = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(origin, "rb") as old, open_anew(copy) as new:
        while block := old.read(COPY_BLOCK):
            new.write(block)
            sign()
        new.flush()
        os.fsync(new.fileno())
    shutil.copystat(source, copy)
    if not _same(source, copy, sign):
        raise OSError(errno.EIO, "the copy differs from the original", copy)


def open_anew(path: bytes) -> BinaryIO:
    """A new, empty file to write, in place of whatever had the name: no link of others is followed."""
    discard(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o666), "wb")


def is_same(source: bytes, copy: bytes, sign: Sign) -> bool:
    """Whether two files, or two folders with all that lies in them, are the same byte by byte."""
    if os.path.islink(source) or os.path.islink(copy) or is_folder(source) != is_folder(copy):
        return False
    if not is_folder(source):
        return _same(source, copy, sign)
    names = sorted(os.listdir(source))
    return names == sorted(os.listdir(copy)) and all(
        is_same(os.path.join(source, name), os.path.join(copy, name), sign) for name in names
    )


def _same(source: bytes, copy: bytes, sign: Sign) -> bool:
    with open(source, "rb") as one, open(copy, "rb") as other:
        while (block := one.read(COPY_BLOCK)) == other.read(COPY_BLOCK):
            if not block:
                return True
            sign()
    return False


def _sync_folder(folder: bytes) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def make_empty(path: bytes, *, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(path, 0o770)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660))


def is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def is_empty(path: bytes) -> bool:
    return not os.listdir(path) if is_folder(path) else os.lstat(path).st_size == 0
