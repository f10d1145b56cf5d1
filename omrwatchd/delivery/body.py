"""A request's body as a stream: framing from memory, the part's bytes block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from omrwatchd.clock import Clock
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.wire import Request
from omrwatchd.sheets.source import Piece, Source

SMALLEST_BLOCK, LARGEST_BLOCK = 1024 * 1024, 16 * 1024 * 1024
"""Bytes handed over at once; between two blocks progress is told, and a stop or a change is noticed."""
BLOCK_SECONDS = 0.25
"""What a block should take at most: on a slow line they stay small."""


def next_block(block: int, seconds: float, largest: int) -> int:
    """How many bytes to hand over next, after ``block`` of them took so long. Pure."""
    wanted = block * 2 if seconds < BLOCK_SECONDS / 2 else block // 2 if seconds > BLOCK_SECONDS else block
    return max(SMALLEST_BLOCK, min(largest, wanted))


class BlockSize:
    """What the chunks of one upload learn of the line from each other: how much to hand over at once."""

    def __init__(self, largest: int = LARGEST_BLOCK) -> None:
        self.bytes = SMALLEST_BLOCK
        self._largest = largest

    def learn(self, length: int, seconds: float) -> None:
        """A block of ``length`` bytes took so long; one that was shorter than it might be says nothing."""
        if length == self.bytes:
            self.bytes = next_block(length, seconds, self._largest)


class Body:
    """The bytes of one request, for one attempt.

    It has ``__iter__`` alone on purpose: given a ``read`` httpx would fall back to blocks of 64 KiB.
    Before the last bytes go out ``before_last`` is called: without them the server can't have a whole
    request, with them it may.
    """

    def __init__(
        self,
        request: Request,
        source: Source,
        halt: Halt,
        *,
        progress: Callable[[int], None],
        before_last: Callable[[], None],
        limit: RateLimit,
        block_size: BlockSize,
        clock: Clock,
    ) -> None:
        self._request = request
        self._source = source
        self._halt = halt
        self._progress = progress
        self._before_last = before_last
        self._limit = limit
        self._clock = clock
        # pictures, which are such a request, come as blocks of memory: small ones
        self._block_size = BlockSize(SMALLEST_BLOCK) if request.makes_batch else block_size
        self.last_bytes_began = False
        """Whether the server may have the whole request."""

    def __iter__(self) -> Iterator[Piece]:
        request = self._request
        self._halt.check()
        yield request.head
        sent = 0
        while sent < request.length:
            self._halt.check()
            length = min(self._limit.block(self._block_size.bytes), request.length - sent)
            self._limit.take(length, self._halt)
            began = self._clock.monotonic()
            yield from self._pieces(request.offset + sent, length)
            sent += length
            self._block_size.learn(length, self._clock.monotonic() - began)
            self._progress(sent)
        self._halt.check()
        self._source.check()
        self._before_last()
        self.last_bytes_began = True
        yield request.tail

    def _pieces(self, offset: int, length: int) -> Iterable[Piece]:
        """One block, which is no longer looked at once it is sent.

        The kernel may still hold ranges of the file that it is to send when ``check`` has found nothing. A
        later request's check sees what changes then; where none is to come, the bytes are copied out of the
        file when they are sent.
        """
        self._source.check()
        pieces = self._source.pieces(offset, length)
        if self._request.makes_batch:
            return map(_copied, pieces)
        return pieces


def _copied(piece: Piece) -> Piece:
    return piece if isinstance(piece, bytes) else replace(piece, copied=True)
