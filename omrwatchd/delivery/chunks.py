"""How a part is cut into requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

ABREAST = 4
"""Chunks that the API wants side by side. No setting: what shapes a plan must not change between two runs."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A byte range of a part, sent as one request."""

    index: int
    total: int
    offset: int
    length: int

    @property
    def is_final(self) -> bool:
        return self.index == self.total - 1


def plan(size: int, chunk_size: int, edge: int | None = None) -> tuple[Chunk, ...]:
    """Cut ``size`` bytes into chunks of ``chunk_size`` bytes, the last one shorter (API.md, In chunks).

    With an ``edge`` (bytes, below ``chunk_size``) the first and the last chunk, which go alone, have about
    that size where the part is large enough, and all between them one size, in full rows of `ABREAST`: the
    last takes what is left over.
    """
    if size <= 0 or chunk_size <= 0 or (edge is not None and edge <= 0):
        raise ValueError("sizes are above 0")
    if edge is None or edge >= chunk_size or size <= max(chunk_size, 2 * edge):
        whole, rest = divmod(size, chunk_size)
        lengths = [chunk_size] * whole + [rest] * (rest > 0)
    else:
        middle = size - 2 * edge
        count = -(-middle // chunk_size)
        if count > 1 and middle >= ABREAST * edge:
            count = -(-count // ABREAST) * ABREAST
        lengths = [edge, *([middle // count] * count), edge + middle % count]
    offsets = accumulate(lengths, initial=0)
    return tuple(
        Chunk(index, len(lengths), offset, length)
        for index, (offset, length) in enumerate(zip(offsets, lengths, strict=False))
    )


def halved(chunk_size: int, smallest: int = 1024 * 1024) -> int | None:
    """The chunk size to go on with after a 413; None when there is no smaller one."""
    return None if chunk_size <= smallest else max(smallest, chunk_size // 2)
