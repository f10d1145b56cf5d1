"""What Linux's TCP tells of a connection, and lets us set (tcp(7), socket(7), linux/tcp.h)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_TCP_INFO = struct.Struct("@B 103x Q 36x I 8x Q")
"""Of struct tcp_info: tcpi_state, tcpi_pacing_rate, tcpi_min_rtt (µs), tcpi_delivery_rate."""
_ESTABLISHED = 1
_NOT_MEASURED = 0xFFFFFFFF
_SO_MAX_PACING_RATE = 47
_RATE = struct.Struct("@L")
_NO_LIMIT = b"\xff" * _RATE.size


class Pace(NamedTuple):
    """How a connection does."""

    sending_rate: int
    """Bytes a second that TCP would send at most now."""
    delivery_rate: int
    """Bytes a second that the peer has acknowledged lately."""
    round_trip: float
    """Seconds, the shortest one lately; 0: none was measured yet."""


def pace_of(sock: socket.socket) -> Pace | None:
    """None: the connection has ended, on either side."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    state, sending, round_trip, delivered = _TCP_INFO.unpack(told.ljust(_TCP_INFO.size, b"\0"))
    if state != _ESTABLISHED:
        return None
    return Pace(sending, delivered, 0.0 if round_trip == _NOT_MEASURED else round_trip / 1e6)


def is_paced(sock: socket.socket) -> bool:
    """Whether TCP spreads what it sends over time (BBR), and does not wait for losses to learn of the line.

    Raises OSError.
    """
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).startswith(b"bbr")


def send_at_most(sock: socket.socket, rate: int | None) -> None:
    """Bytes a second; None: as TCP likes. Raises OSError."""
    limit = _NO_LIMIT if rate is None else _RATE.pack(rate)
    sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, limit)


def fill_segments(sock: socket.socket, fill: bool) -> None:
    """Hold back what does not fill a segment yet (TCP_CORK), or let it go. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, fill)


def let_sends_wait(sock: socket.socket, seconds: float) -> None:
    """Let a send that blocks wait so long when no byte is taken (SO_SNDTIMEO). Raises OSError."""
    whole, rest = divmod(seconds, 1)
    limit = struct.pack("@ll", int(whole), int(rest * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
