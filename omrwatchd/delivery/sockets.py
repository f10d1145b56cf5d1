"""httpcore's network, with sockets that another thread can wake and answers that come early noticed.

A thread blocked in ``recv`` is not woken by closing its socket, only by ``shutdown`` (shutdown(2)).
A server that refuses a 50 MiB body answers at its start; httpcore looks for an answer only behind the
body, unless a write fails. So a write first looks whether the answer is there already.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import typing
from collections.abc import Iterable

import httpcore

SOCKET_OPTION = typing.Union[  # noqa: UP007 - httpcore's own alias is not public
    tuple[int, int, int], tuple[int, int, bytes | bytearray], tuple[int, int, None, int]
]
_EARLY_ANSWER_BYTES = 64 * 1024


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
    """A connection: plain sends of memory views, and a look for an early answer before each."""

    def __init__(self, inner: httpcore.NetworkStream, sockets: Sockets) -> None:
        self._inner = inner
        self._sockets = sockets
        self._sock: socket.socket = inner.get_extra_info("socket")
        self._early = b""
        sockets.add(self._sock)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``; ``timeout`` (seconds) is for each step of it, so only a stall ends it."""
        if self._answer_is_there():
            raise httpcore.WriteError("the server answered before it had the whole body")
        view = memoryview(buffer)
        try:
            self._sock.settimeout(timeout)
            while view:
                view = view[self._sock.send(view) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("no byte was taken") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def _answer_is_there(self) -> bool:
        """Whether response bytes have come; over TLS a readable socket may be a session ticket alone."""
        if self._early:
            return True
        if not _readable(self._sock):
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
        return WatchedStream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._sockets)

    def get_extra_info(self, info: str) -> typing.Any:
        return self._inner.get_extra_info(info)


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()  # select(2) fails above 1,024 descriptors
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class WatchedNetwork(httpcore.NetworkBackend):
    """Opens WatchedStreams."""

    def __init__(self, sockets: Sockets) -> None:
        self._inner = httpcore.SyncBackend()
        self._sockets = sockets

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return WatchedStream(stream, self._sockets)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
