"""A connection as httpcore wants it, that sends files without detours and notices answers that come early.

A server that refuses a 50 MiB body answers at its start; httpcore looks for an answer only behind the
body, unless a write fails. So a write first looks whether the answer is there already.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
import typing
from collections.abc import Iterable, Iterator

import httpcore

from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.room import Room
from omrwatchd.delivery.sockets import Sockets
from omrwatchd.delivery.tcp import fill_segments, is_paced, let_sends_wait, pace_of
from omrwatchd.sheets.source import FileRange, SourceChanged

_EARLY_ANSWER_BYTES = 64 * 1024
_LOOK_SECONDS = 0.005
"""Between two looks for an early answer: on a fast line each block would ask the kernel."""
_SMALL_BYTES = 4096
"""Such a piece may be the one that makes a request whole, after a wait for the disk: a look is worth it."""
_KERNEL_SECONDS = 1.0
"""How long a send may wait for room without being able to see an answer that comes meanwhile."""
_BLOCK_BYTES = 512 * 1024
_READS_OF_AN_ANSWER = 10
"""How many read timeouts a whole answer may take: some servers send spaces to keep a proxy patient."""
_INTERIM = b"HTTP/1.1 1"
_EARLY = "the server answered before it had the whole body"


class WatchedStream(httpcore.NetworkStream):
    """A connection: files go out without detours, and an answer that comes early is noticed."""

    def __init__(
        self,
        inner: httpcore.NetworkStream,
        sockets: Sockets,
        handover: Handover,
        *,
        handle: socket.socket | None = None,
        room: Room | None = None,
        nested: bool = False,
    ) -> None:
        """``handle`` and ``room``: those of the connection where it is none of its own, but TLS over one.

        ``nested``: TLS within the TLS of a proxy, which only ``inner`` knows how to speak.
        """
        self._inner = inner
        self._sockets = sockets
        self._handover = handover
        self._nested = nested
        self._sock: socket.socket = inner.get_extra_info("socket")
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        self._early = b""
        self._answered = False
        self._answer_until: float | None = None
        self._looked_at = 0.0
        self._block: memoryview | None = None
        self._kernel_waits: float | None = None
        self._paced: bool | None = None
        self._handle = handle or sockets.add(self._sock)
        self.room = room or Room(self._handle)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """``timeout`` (seconds) is for each step; an answer that comes in drops for ever is ended as well."""
        self._answered = False  # the connection may be used again
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        if timeout is not None:
            now = time.monotonic()
            self._answer_until = self._answer_until or now + _READS_OF_AN_ANSWER * timeout
            if now >= self._answer_until:
                raise httpcore.ReadTimeout("the answer does not end")
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``, or of the range it stands for.

        ``timeout`` (seconds) is for each step of it, so only a stall ends it. What reading the file raises
        passes through.
        """
        owed = self._handover.take(buffer)
        self._answer_until = None
        if not buffer:  # the end of a request is written, too: an answer may be there by then
            return
        self._handover.taken = False
        if self._answer_is_there(always=len(buffer) < _SMALL_BYTES):
            raise httpcore.WriteError(_EARLY)
        if owed is None:
            self._send([memoryview(buffer)], timeout)
        elif self._is_tls or owed.copied:
            self._send_read(owed, timeout)
        else:
            self._send_file(owed, timeout)

    def _send(self, blocks: Iterable[memoryview], timeout: float | None) -> None:
        if self._nested:
            self._handover.taken = True  # perhaps
            for block in blocks:
                self._inner.write(bytes(block), timeout)
            return
        taken = False
        left = self._wait_in_kernel(timeout)
        for block in blocks:
            rest = block
            while rest:
                try:
                    sent = self._sock.send(rest)
                except TimeoutError:  # OpenSSL goes on where it was when it is given the same bytes
                    self._await_room(left)
                    left = self._wait_in_kernel(timeout)
                    continue
                except OSError as error:
                    raise httpcore.WriteError(str(error)) from error
                if not taken:
                    self._handover.taken = taken = True
                rest = rest[sent:]

    def _send_read(self, owed: FileRange, timeout: float | None) -> None:
        """Read and send by blocks that the processor's cache holds."""
        if self._block is None:
            self._block = memoryview(bytearray(_BLOCK_BYTES))
        with self._full_segments():
            self._send(owed.blocks(self._block), timeout)

    @contextlib.contextmanager
    def _full_segments(self) -> Iterator[None]:
        """Have TCP fill its segments: TLS hands over records of 16 KiB, one by one."""
        self._fill_segments(True)
        try:
            yield
        finally:
            self._fill_segments(False)

    def _fill_segments(self, fill: bool) -> None:
        with contextlib.suppress(OSError):  # a connection that has gone says so where it is written to
            if self._paced is None:  # by BBR filled segments cost time and work
                self._paced = self._nested or is_paced(self._sock)
            if not self._paced:
                fill_segments(self._sock, fill)

    def _send_file(self, owed: FileRange, timeout: float | None) -> None:
        """Left to the kernel, the waiting too: four lanes would fight for each turn that Python takes.

        A peer that takes nothing for longer is watched: it may have answered, and never take anything more.
        """
        while owed.length:
            left = self._wait_in_kernel(timeout)
            try:
                sent = os.sendfile(self._sock.fileno(), owed.descriptor, owed.offset, owed.length)
            except BlockingIOError:
                self._await_room(left)
                continue
            except OSError:
                # the file's fault, the connection's, or a file system without it: this tells
                self._send_read(owed, timeout)
                return
            if not sent:
                raise SourceChanged("the file became shorter while it was read")
            owed = owed.behind(sent)
            self._handover.taken = True

    def _wait_in_kernel(self, timeout: float | None) -> float | None:
        """Have sends block for a while when no byte is taken (SO_SNDTIMEO).

        What is left of ``timeout`` (seconds; None: no limit) when a send has waited in vain.

        Python's limit is the same, so that it knows of one. Where it is set in Python alone, by a read, the
        descriptor does not block: that is slower, since Python polls between TLS records, and no less right.
        """
        seconds = min(_KERNEL_SECONDS, timeout or _KERNEL_SECONDS)
        try:
            if self._sock.gettimeout() != seconds:
                self._sock.settimeout(seconds)
                os.set_blocking(self._sock.fileno(), True)
            if self._kernel_waits != seconds:
                let_sends_wait(self._sock, seconds)
                self._kernel_waits = seconds
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error
        return None if timeout is None else timeout - seconds

    def _never_block(self) -> None:
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(0)

    def _await_room(self, timeout: float | None) -> None:
        """Until the peer takes bytes again; one that has answered already may never do so."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            seen = _poll(self._sock, select.POLLIN | select.POLLOUT, left)
            if not seen:
                raise httpcore.WriteTimeout("no byte was taken")
            if seen & select.POLLIN and self._take_early():
                raise httpcore.WriteError(_EARLY)
            if seen & ~select.POLLIN:
                return

    def _answer_is_there(self, *, always: bool) -> bool:
        """Whether response bytes have come; over TLS a readable socket may be a session ticket alone."""
        if self._answered:
            return True
        now = time.monotonic()
        if self._nested or (not always and now - self._looked_at < _LOOK_SECONDS):
            return False
        self._looked_at = now
        return bool(_poll(self._sock, select.POLLIN, 0)) and self._take_early()

    def _take_early(self) -> bool:
        try:
            self._never_block()
            data = self._sock.recv(_EARLY_ANSWER_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error
        self._early += data
        # bytes, or the end of the stream: either way no use in sending on
        self._answered = not data or not _is_interim(self._early)
        return self._answered

    @property
    def rate(self) -> int:
        """How fast TCP would send now, in bytes a second; 0: the connection has ended, on either side."""
        pace = pace_of(self._handle)
        return 0 if pace is None else pace.sending_rate

    def close(self) -> None:
        self._sockets.discard(self._handle)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            self._sockets.discard(self._handle)
            raise
        return WatchedStream(
            inner, self._sockets, self._handover, handle=self._handle, room=self.room, nested=self._is_tls
        )

    def get_extra_info(self, info: str) -> typing.Any:
        return self._inner.get_extra_info(info)


def _is_interim(data: bytes) -> bool:
    """Whether no more than `100 Continue` and its like has come (RFC 9110, 15.2): the body is wanted."""
    while data and len(data) < _EARLY_ANSWER_BYTES:
        if data[: len(_INTERIM)] != _INTERIM[: len(data)] or data.startswith(b"HTTP/1.1 101"):
            return False
        data = data.partition(b"\r\n\r\n")[2]
    return not data


def _poll(sock: socket.socket, events: int, timeout: float | None) -> int:
    """Which of the events, or an error, came within ``timeout`` seconds; 0 when none."""
    poll = select.poll()  # select(2) fails above 1,024 descriptors
    poll.register(sock, events)
    found = poll.poll(None if timeout is None else timeout * 1000)
    return found[0][1] if found else 0
