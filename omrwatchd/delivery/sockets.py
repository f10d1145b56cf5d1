"""httpcore's network, with sockets that another thread can wake and answers that come early noticed.

A thread blocked in ``recv`` is not woken by closing its socket, only by ``shutdown`` (shutdown(2)).
A server that refuses a 50 MiB body answers at its start; httpcore looks for an answer only behind the
body, unless a write fails. So a write first looks whether the answer is there already.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
import typing
from collections.abc import Iterable

import httpcore

from omrwatchd.delivery.handover import Handover
from omrwatchd.sheets.source import FileRange, SourceChanged

SOCKET_OPTION = typing.Union[  # noqa: UP007 - httpcore's own alias is not public
    tuple[int, int, int], tuple[int, int, bytes | bytearray], tuple[int, int, None, int]
]
_EARLY_ANSWER_BYTES = 64 * 1024
_LOOK_SECONDS = 0.005
"""Between two looks for an early answer: on a fast line each block would ask the kernel."""
_BLOCK_BYTES = 256 * 1024


class Sockets:
    """The open connections of one client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)

    def discard(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)

    def wake_all(self) -> None:
        """End every connection; whoever waits on one gets an error at once."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    # not the method of SSLSocket: it would take the TLS state away under a reader
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class WatchedStream(httpcore.NetworkStream):
    """A connection: files go out without detours, and an answer that comes early is noticed."""

    def __init__(
        self, inner: httpcore.NetworkStream, sockets: Sockets, handover: Handover, *, nested: bool = False
    ) -> None:
        """``nested``: TLS within the TLS of a proxy, which only ``inner`` knows how to speak."""
        self._inner = inner
        self._sockets = sockets
        self._handover = handover
        self._nested = nested
        self._sock: socket.socket = inner.get_extra_info("socket")
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        self._early = b""
        self._looked_at = 0.0
        self._block: memoryview | None = None
        self._kernel_waits: float | None = None
        sockets.add(self._sock)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``, or of the range it stands for.

        ``timeout`` (seconds) is for each step of it, so only a stall ends it. What reading the file raises
        passes through.
        """
        owed = self._handover.take(buffer)
        if self._answer_is_there():
            raise httpcore.WriteError("the server answered before it had the whole body")
        if owed is None:
            self._send(memoryview(buffer), timeout)
        elif self._is_tls:
            self._send_read(owed, timeout)
        else:
            self._send_file(owed, timeout)

    def _send(self, view: memoryview, timeout: float | None) -> None:
        if self._nested:
            self._inner.write(bytes(view), timeout)
            return
        try:
            self._set_timeout(timeout)
            while view:
                view = view[self._sock.send(view) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("no byte was taken") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def _send_read(self, owed: FileRange, timeout: float | None) -> None:
        """Read and send by blocks that the processor's cache holds."""
        if self._block is None:
            self._block = memoryview(bytearray(_BLOCK_BYTES))
        while owed.length:
            have = owed.read_into(self._block)
            self._send(self._block[:have], timeout)
            owed = owed.behind(have)

    def _send_file(self, owed: FileRange, timeout: float | None) -> None:
        """Left to the kernel, the waiting too: four lanes would fight for each turn that Python takes."""
        self._wait_in_kernel(timeout)
        while owed.length:
            try:
                sent = os.sendfile(self._sock.fileno(), owed.descriptor, owed.offset, owed.length)
            except BlockingIOError:
                raise httpcore.WriteTimeout("no byte was taken") from None
            except OSError:
                # the file's fault, the connection's, or a file system without it: this tells
                self._send_read(owed, timeout)
                return
            if not sent:
                raise SourceChanged("the file became shorter while it was read")
            owed = owed.behind(sent)

    def _wait_in_kernel(self, timeout: float | None) -> None:
        """Block in a send for up to ``timeout`` seconds without progress (SO_SNDTIMEO, socket(7))."""
        self._set_timeout(None)
        if self._kernel_waits != timeout:
            whole, rest = divmod(timeout or 0.0, 1)
            limit = struct.pack("@ll", int(whole), int(rest * 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._kernel_waits = timeout

    def _set_timeout(self, timeout: float | None) -> None:
        if self._sock.gettimeout() != timeout:
            self._sock.settimeout(timeout)

    def _answer_is_there(self) -> bool:
        """Whether response bytes have come; over TLS a readable socket may be a session ticket alone."""
        if self._early:
            return True
        now = time.monotonic()
        if self._nested or now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        if not _ready(self._sock, select.POLLIN, 0):
            return False
        try:
            self._sock.settimeout(0)
            self._early = self._sock.recv(_EARLY_ANSWER_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error
        return True  # bytes, or the end of the stream: either way no use in sending on

    def close(self) -> None:
        self._sockets.discard(self._sock)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._sockets.discard(self._sock)
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return WatchedStream(inner, self._sockets, self._handover, nested=self._is_tls)

    def get_extra_info(self, info: str) -> typing.Any:
        return self._inner.get_extra_info(info)


def _ready(sock: socket.socket, event: int, timeout: float | None) -> bool:
    poll = select.poll()  # select(2) fails above 1,024 descriptors
    poll.register(sock, event)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


class WatchedNetwork(httpcore.NetworkBackend):
    """Opens WatchedStreams."""

    def __init__(self, sockets: Sockets, handover: Handover) -> None:
        self._inner = httpcore.SyncBackend()
        self._sockets = sockets
        self._handover = handover

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return WatchedStream(stream, self._sockets, self._handover)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
