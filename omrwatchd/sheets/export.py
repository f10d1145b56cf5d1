"""Parts written to disk as files of their own, for people; delivery itself writes none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from omrwatchd.sheets.source import SourceChanged
from omrwatchd.sheets.split import Layout, Range

BLOCK = 8 * 1024 * 1024
_NO_QUICK_WAY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def write_part(fd: int, layout: Layout, target: bytes) -> None:
    """Write a part of the ZIP behind ``fd`` to a new file ``target``, which is there whole or not at all.

    Raises:
        SourceChanged: the ZIP became shorter meanwhile.
        OSError: as ``new_file`` does.
    """
    with new_file(target) as descriptor:
        for segment in layout.segments:
            if isinstance(segment, Range):
                copy_range(fd, descriptor, segment.offset, segment.length)
            else:
                _write(descriptor, segment)


@contextlib.contextmanager
def new_file(target: bytes, mode: int = 0o666) -> Iterator[int]:
    """A descriptor to write to; what was written is at ``target`` when the block ends well, else nowhere.

    Until then it has a hidden name beside ``target``. What a killed process left under that name is
    begun anew: nothing is in the way of a second try.

    Raises:
        FileExistsError: ``target`` is there; it is left as it is.
        BlockingIOError: another process is writing it just now.
        OSError: the disk is full, or the place can't be written.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    folder, name = os.path.split(target)
    partial = os.path.join(folder, b"." + name[:240] + b".part")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, mode)
    try:
        _lock(descriptor)
        try:
            os.ftruncate(descriptor, 0)
            yield descriptor
            os.fsync(descriptor)
            put_in_place(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Held until the descriptor is closed, also by the end of the process (flock(2))."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # some shares know no locks; put_in_place overwrites nothing all the same


def copy_range(source: int, target: int, offset: int, length: int) -> None:
    """Append a range of ``source``, by the kernel alone where it can: some file systems do that for free.

    See copy_file_range(2).

    Raises SourceChanged when ``source`` ends before, and OSError.
    """
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
