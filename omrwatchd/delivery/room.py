"""Room on the line for a connection that is new, beside others that have filled it.

Where TCP learns of a line by its losses and delays (CUBIC, the default of Linux), a connection that begins
while others keep the line's queue full takes that for the line's end and stays slow for minutes. Chunk 0's
connection would carry most of a first file, and the line would lie idle whenever it waits for the server.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading

from omrwatchd.delivery.tcp import is_paced, pace_of, send_at_most

ROUND_TRIPS = 16
"""Three until the first byte over TLS, ten until ten segments in flight have become 15 MB, some to spare."""
SHORTEST_ROUND_TRIP = 0.002
"""Seconds: on anything nearer a new connection finds its share faster than one could make room."""


class Room:
    """What one connection leaves to new ones beside it."""

    def __init__(self, sock: socket.socket) -> None:
        """``sock``: a handle to the connection, which may be closed at any time."""
        self._sock = sock
        self._lock = threading.Lock()
        self._usual = 0
        self._over: threading.Timer | None = None

    def leave(self, share: float) -> None:
        """Send with no more than this share of the latest rate, until the new ones know the line."""
        with self._lock, contextlib.suppress(OSError):
            pace = pace_of(self._sock)
            if pace is None or not pace.delivery_rate or pace.round_trip < SHORTEST_ROUND_TRIP:
                return
            if is_paced(self._sock):  # BBR finds its share by itself, and forgets it under such a limit
                return
            if self._over is None:
                self._usual = pace.delivery_rate
            else:
                self._over.cancel()
            send_at_most(self._sock, math.ceil(share * self._usual))
            # no send may have to end for it: under the limit it could take as long as a stall
            self._over = threading.Timer(ROUND_TRIPS * pace.round_trip, self._take_back)
            self._over.daemon = True
            self._over.start()

    def _take_back(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._over = None
            send_at_most(self._sock, None)
