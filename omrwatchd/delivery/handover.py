"""Ranges of a file on their way past httpcore, which knows only bytes.

httpcore and h11 count what a body yields and pass it on. In place of a range goes a stand-in of its length;
the connection, called on the same thread right after, takes the range and sends that. Should a stand-in ever
go astray, the body ends with an error before its last bytes, so no server can take it for whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache

from omrwatchd.sheets.source import FileRange, Piece


@lru_cache(maxsize=8)
def _blank(length: int) -> bytes:
    """Zeros of calloc(3): they take no memory until somebody reads them."""
    return bytes(length)


class _Own(threading.local):
    owed: FileRange | None = None
    taken: bool = True


class Handover:
    """Between the bodies and the connections of one client; each thread has its own place in it."""

    def __init__(self) -> None:
        self._own = _Own()

    @property
    def taken(self) -> bool:
        """Whether the kernel has taken anything of what was written last on this thread."""
        return self._own.taken

    @taken.setter
    def taken(self, taken: bool) -> None:
        self._own.taken = taken

    def stand_ins(self, body: Iterable[Piece]) -> Iterator[bytes]:
        """The body as bytes; what stands for a range is worth nothing in itself."""
        for piece in body:
            if isinstance(piece, bytes):
                yield piece
                continue
            self._own.owed = piece
            yield _blank(piece.length)
            if self._own.owed is not None:
                raise RuntimeError("a range of the file was not sent")

    def take(self, buffer: bytes) -> FileRange | None:
        """The range that ``buffer`` stands for; None when it is to be sent itself."""
        owed = self._own.owed
        if owed is None or len(buffer) != owed.length:
            return None
        self._own.owed = None
        return owed

    def clear(self) -> None:
        """A new request begins on this thread: what an earlier one left is not meant any more."""
        self._own.owed, self._own.taken = None, True
