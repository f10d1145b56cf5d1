"""How long the server's certificate is still good; that it is good now, an answer has shown."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from omrwatchd.clock import Clock
from omrwatchd.ops.doctor.finding import Finding, ok, warn
from omrwatchd.settings import Server

EXPIRY_DAYS = 21
RENEW = "Have the server's certificate renewed, and check this machine's clock (timedatectl)."
_DAY = 86400.0


def certificate(name: str, server: Server, address: str, clock: Clock) -> Iterator[Finding]:
    """Nothing where there is no TLS."""
    parts = urlsplit(address)
    if parts.scheme != "https" or parts.hostname is None:
        return
    try:
        ends = _end(server, parts.hostname, parts.port or 443)
    except (OSError, ValueError):
        yield ok(name, "It is good now; its end can't be seen from here (behind a proxy).")
        return
    days = int((ends - clock.now()) // _DAY)
    if days < EXPIRY_DAYS:
        yield warn(name, f"The certificate of {parts.hostname} ends in {days} days.", RENEW)
    else:
        yield ok(name, f"The certificate of {parts.hostname} is good for {days} more days.")


def _end(server: Server, host: str, port: int) -> float:
    """Seconds since the epoch, asked for past any proxy.

    Raises:
        OSError: no direct connection.
    """
    context = ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
    if server.client_cert is not None:
        context.load_cert_chain(server.client_cert, server.client_key)
    with (
        socket.create_connection((host, port), timeout=server.connect_timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        shown = secure.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))
