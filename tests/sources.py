"""What of a source would reach the server."""

from __future__ import annotations

from collections.abc import Iterator

from omrwatchd.sheets.source import Source


def sent(source: Source, offset: int, length: int) -> bytes:
    """A range as it is sent: what lies in the file is read where it lies, between two checks."""
    source.check()
    found = b"".join(_blocks(source, offset, length))
    source.check()
    return found


def whole(source: Source) -> bytes:
    return sent(source, 0, source.size)


def _blocks(source: Source, offset: int, length: int) -> Iterator[bytes]:
    """Small ones, so that a range takes several."""
    buffer = memoryview(bytearray(64))
    for piece in source.pieces(offset, length):
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from map(bytes, piece.blocks(buffer))
