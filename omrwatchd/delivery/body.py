"""A request's body as a stream: framing from memory, the part's bytes block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.wire import Request
from omrwatchd.sheets.source import Source

BLOCK = 1024 * 1024
"""Bytes read and sent at once."""


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
    ) -> None:
        self._request = request
        self._source = source
        self._halt = halt
        self._progress = progress
        self._before_last = before_last
        self._limit = limit
        self.last_bytes_began = False
        """Whether the server may have the whole request."""

    def __iter__(self) -> Iterator[bytes]:
        request = self._request
        self._halt.check()
        yield request.head
        sent = 0
        while sent < request.length:
            self._halt.check()
            length = min(self._limit.block(BLOCK), request.length - sent)
            self._limit.take(length, self._halt)
            block = self._source.read(request.offset + sent, length)
            yield block
            sent += len(block)
            self._progress(sent)
        self._halt.check()
        self._before_last()
        self.last_bytes_began = True
        yield request.tail
