"""httpcore's network: connections that can be given up while they are made."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable

import httpcore

from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.sockets import Sockets
from omrwatchd.delivery.stream import WatchedStream

SOCKET_OPTION = typing.Union[  # noqa: UP007 - httpcore's own alias is not public
    tuple[int, int, int], tuple[int, int, bytes | bytearray], tuple[int, int, None, int]
]


class _Attempt(threading.Thread):
    """One try to connect, on a thread of its own: neither getaddrinfo(3) nor connect(2) can be woken."""

    def __init__(self, connect: Callable[[], httpcore.NetworkStream], over: threading.Event) -> None:
        super().__init__(name="connect", daemon=True)
        self._connect = connect
        self._over = over
        self._lock = threading.Lock()
        self._given_up = False
        self._stream: httpcore.NetworkStream | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            stream = self._connect()
        except BaseException as error:  # noqa: BLE001 - it is raised where the connection is wanted
            self._error = error
        else:
            with self._lock:
                self._stream = stream
                if self._given_up:
                    stream.close()
        self._over.set()

    def result(self) -> httpcore.NetworkStream:
        """The connection; raises what connecting did, and ConnectError where it has not ended."""
        with self._lock:
            self._given_up = self._stream is None
        if self._error is not None:
            raise self._error
        if self._stream is None:
            raise httpcore.ConnectError("given up")
        return self._stream


class WatchedNetwork(httpcore.NetworkBackend):
    """Opens WatchedStreams, and knows how the latest of them does."""

    def __init__(self, sockets: Sockets, handover: Handover) -> None:
        self._inner = httpcore.SyncBackend()
        self._sockets = sockets
        self._handover = handover
        self._latest: WatchedStream | None = None

    @property
    def rate(self) -> int:
        """How fast TCP sends on the latest connection now, in bytes a second; 0: there is none any more."""
        return 0 if self._latest is None else self._latest.rate

    def leave_room(self, share: float) -> None:
        """Have the latest connection send with no more than this share of its rate, for a while."""
        if self._latest is not None:
            self._latest.room.leave(share)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        with self._sockets.connecting() as over:
            attempt = _Attempt(
                lambda: self._inner.connect_tcp(host, port, timeout, local_address, socket_options), over
            )
            attempt.start()
            over.wait()
        self._latest = WatchedStream(attempt.result(), self._sockets, self._handover)
        return self._latest

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
