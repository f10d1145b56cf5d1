"""A part of a ZIP, readable like a file although it is none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from omrwatchd.sheets.source import Piece, Source, across
from omrwatchd.sheets.split import Layout


class VirtualPart:
    """A ``Source`` made of ranges of another one and of new bytes; costs no disk space.

    Holds nothing that changes, so it is as safe across threads as ``source`` is.

    Args:
        source: the original ZIP.
        layout: of which bytes the part is made.
    """

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source = source
        self._segments = layout.segments
        lengths = (len(piece) if isinstance(piece, bytes) else piece.length for piece in layout.segments)
        self._starts = list(accumulate(lengths, initial=0))
        self._size = layout.size

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Ranges of the original file, and the new bytes between them."""
        for index, skip, want in across(self._starts, offset, length):
            segment = self._segments[index]
            if isinstance(segment, bytes):
                yield segment[skip : skip + want]
            else:
                yield from self._source.pieces(segment.offset + skip, want)

    def check(self) -> None:
        """Raises SourceChanged when the original file is another one by now."""
        self._source.check()
