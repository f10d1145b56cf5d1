"""Parts written to disk as files of their own, for people; delivery itself writes none."""

from __future__ import annotations

import contextlib
import errno
import os

from omrwatchd.sheets.source import SourceChanged
from omrwatchd.sheets.split import Layout, Range

BLOCK = 8 * 1024 * 1024
_NO_QUICK_WAY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def write_part(fd: int, layout: Layout, target: bytes) -> None:
    """Write a part of the ZIP behind ``fd`` to a new file ``target``, which is there whole or not at all.

    Raises:
        FileExistsError: ``target`` is there; it is left as it is.
        SourceChanged: the ZIP became shorter meanwhile.
        OSError: the disk is full, or the place can't be written.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    folder, name = os.path.split(target)
    partial = os.path.join(folder, b"." + name[:240] + b".part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o666)
    try:
        try:
            for segment in layout.segments:
                if isinstance(segment, Range):
                    _copy(fd, descriptor, segment.offset, segment.length)
                else:
                    _write(descriptor, segment)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        put_in_place(partial, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _copy(source: int, target: int, offset: int, length: int) -> None:
    """A range, by the kernel alone where it can (copy_file_range(2)), which some file systems do for free."""
    while length > 0:
        try:
            copied = os.copy_file_range(source, target, length, offset)
        except OSError as error:
            if error.errno not in _NO_QUICK_WAY:
                raise
            block = os.pread(source, min(BLOCK, length), offset)
            _write(target, block)
            copied = len(block)
        if copied == 0:
            raise SourceChanged("the file became shorter while it was read")
        offset += copied
        length -= copied


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def put_in_place(partial: bytes, target: bytes) -> None:
    """Rename what is complete, and overwrite nothing: a link never does; where there are none, look first.

    Raises FileExistsError.
    """
    try:
        os.link(partial, target)
        os.unlink(partial)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(partial, target)
