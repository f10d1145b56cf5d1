"""How a part is cut into requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass


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


def plan(size: int, chunk_size: int) -> tuple[Chunk, ...]:
    """Cut ``size`` bytes into chunks of ``chunk_size`` bytes, the last one shorter (API.md, In chunks)."""
    if size <= 0 or chunk_size <= 0:
        raise ValueError("sizes are above 0")
    total = -(-size // chunk_size)
    return tuple(
        Chunk(index, total, index * chunk_size, min(chunk_size, size - index * chunk_size))
        for index in range(total)
    )


def halved(chunk_size: int, smallest: int = 1024 * 1024) -> int | None:
    """The chunk size to go on with after a 413; None when there is no smaller one."""
    return None if chunk_size <= smallest else max(smallest, chunk_size // 2)
