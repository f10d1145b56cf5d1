"""Ranged reads of what is uploaded, and the promise that it has not changed meanwhile."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from omrwatchd.model import file_time


class SourceChanged(Exception):
    """The file is no longer the one that was inspected: nothing read from it may be sent as finished."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes that lie in an open file: whoever sends them may leave it to the kernel (sendfile(2)).

    Nobody has looked at them yet: ``Source.check`` afterwards tells whether they were the right ones.
    """

    descriptor: int
    offset: int
    length: int
    copied: bool = False
    """The bytes are to be those of the moment they are sent, and not of when the kernel comes to them."""

    def blocks(self, buffer: memoryview) -> Iterator[memoryview]:
        """Its bytes, read block by block into ``buffer``: each takes the place of the one before.

        Raises:
            SourceChanged: the file ends before.
            OSError: the file can't be read.
        """
        offset, end = self.offset, self.offset + self.length
        while offset < end:
            wanted = buffer[: end - offset]
            have = os.preadv(self.descriptor, [wanted], offset)
            if not have:
                raise SourceChanged("the file became shorter while it was read")
            yield wanted[:have]
            offset += have

    def behind(self, skip: int) -> FileRange:
        """What is left of the range behind its first ``skip`` bytes."""
        return FileRange(self.descriptor, self.offset + skip, self.length - skip, self.copied)


Piece = bytes | FileRange


class Source(Protocol):
    """Bytes of a known length, readable at any offset, from several threads at once."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The bytes of the range, in order, where possible without reading them; ``check`` comes after.

        Raises:
            ValueError: the range lies outside.
            SourceChanged: bytes that it had to read are no longer those that were inspected.
            OSError: bytes that it had to read can't be read.
        """

    def check(self) -> None:
        """Raises SourceChanged when the bytes are no longer those that were inspected."""


class FileSource:
    """An open file that must stay as it was when it was inspected.

    The descriptor stays the caller's: it is closed elsewhere, after the last read.

    Args:
        fd: an open regular file; its position is not used and does not move.
        size: the length in bytes that was inspected.
        mtime_ns: the modification time, in nanoseconds, that was inspected.
    """

    def __init__(self, fd: int, size: int, mtime_ns: int) -> None:
        self._fd = fd
        self._size = size
        self._mtime_ns = file_time(mtime_ns)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """One range of the file."""
        check_range(offset, length, self._size)
        yield FileRange(self._fd, offset, length)

    def check(self) -> None:
        """Raises SourceChanged when size or time are no longer those that were inspected."""
        now = os.fstat(self._fd)
        if (now.st_size, file_time(now.st_mtime_ns)) != (self._size, self._mtime_ns):
            raise SourceChanged("the file was changed while it was read")


def check_range(offset: int, length: int, size: int) -> None:
    """Raise ``ValueError`` unless the range lies within ``size`` bytes."""
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{length} bytes at {offset} lie outside of {size} bytes")


def across(starts: Sequence[int], offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Which segments hold the range: each one's index, the bytes to skip in it and to take of it.

    Args:
        starts: where each segment begins, in bytes, and at the end the length of all.
    """
    check_range(offset, length, starts[-1])
    stop = offset + length
    index = bisect_right(starts, offset) - 1
    while offset < stop:
        end = min(stop, starts[index + 1])
        if end > offset:
            yield index, offset - starts[index], end - offset
        offset = max(offset, end)
        index += 1
