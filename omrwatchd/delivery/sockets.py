"""The sockets of all connections, which another thread can wake.

A thread blocked in ``recv`` is not woken by closing its socket, only by ``shutdown`` (shutdown(2)).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Sockets:
    """The connections of one client, from their first packet on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: set[socket.socket] = set()
        self._attempts: set[threading.Event] = set()

    def add(self, sock: socket.socket) -> socket.socket:
        """A handle of its own to the connection, which stays one while TLS takes ``sock`` over."""
        handle = sock.dup()
        with self._lock:
            self._handles.add(handle)
        return handle

    def discard(self, handle: socket.socket) -> None:
        with self._lock:
            self._handles.discard(handle)
            handle.close()

    @contextlib.contextmanager
    def connecting(self) -> Iterator[threading.Event]:
        """To be set when there is a connection, or can't be; a wake sets it before that."""
        over = threading.Event()
        with self._lock:
            self._attempts.add(over)
        try:
            yield over
        finally:
            with self._lock:
                self._attempts.discard(over)

    def wake_all(self) -> None:
        """End every connection; whoever waits on one, or for one, gets an error at once."""
        with self._lock:
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
            for over in self._attempts:
                over.set()
