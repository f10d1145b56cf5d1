"""The connections to the server: how they are made, and which of them a request takes."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from omrwatchd.delivery.network import WatchedNetwork
from omrwatchd.errors import Problem
from omrwatchd.settings import Server

KEEPALIVE_SECONDS = 60.0
"""httpx's own 5 s is exactly our cooldown: each file would begin with a new handshake."""
_SOCKS = ("socks5", "socks5h")


@dataclass(slots=True, eq=False)
class _Seat:
    """The place of one connection: a pool of httpcore's that has no more, and the network it is made by."""

    pool: httpcore.ConnectionPool
    network: WatchedNetwork
    idle_since: float = 0.0

    def tidy(self) -> None:
        """Close our end of a connection that the server has ended, or that was idle for too long."""
        if not self.network.rate or time.monotonic() - self.idle_since > KEEPALIVE_SECONDS:
            self.pool.close()


class Connections(httpx.BaseTransport):
    """httpx on connections of ours; its own transport takes no network backend.

    A request takes the connection on which TCP sends fastest now. Beside three others TCP learns to send
    slowly, and takes seconds to unlearn it (BBR): the final chunk, which goes alone, would wait for that.
    """

    def __init__(self, server: Server, at_most: int, make_network: Callable[[], WatchedNetwork]) -> None:
        """Raises Problem, naming the setting, where its TLS or its proxy can't be used."""
        make_pool = _pools(server)
        networks = [make_network() for _ in range(at_most)]
        self._seats = [_Seat(make_pool(network), network) for network in networks]
        self._free = list(self._seats)
        self._new: set[_Seat] = set()
        self._changed = threading.Condition()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        seat = self._take(request.extensions["timeout"]["pool"])
        try:
            answer = seat.pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except BaseException:
            self._give(seat)
            raise
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_AnswerStream(answer, lambda: self._give(seat)),
            extensions=answer.extensions,
        )

    def _take(self, timeout: float) -> _Seat:
        with self._changed:
            if not self._changed.wait_for(lambda: self._free, timeout):
                raise httpcore.PoolTimeout
            for seat in self._free:
                seat.tidy()
            rates = {seat: seat.network.rate for seat in self._free}
            best = max(self._free, key=rates.__getitem__)
            self._free.remove(best)
            if not rates[best]:
                self._new.add(best)
                self._make_room()
            return best

    def _make_room(self) -> None:
        """The connections that fill the line leave the new ones their share of it."""
        busy = [seat for seat in self._seats if seat not in self._free]
        known = [seat for seat in busy if seat not in self._new]
        for seat in known:
            seat.network.leave_room(len(known) / len(busy))

    def _give(self, seat: _Seat) -> None:
        with self._changed:
            seat.idle_since = time.monotonic()
            self._free.append(seat)
            self._new.discard(seat)
            self._changed.notify()

    def close(self) -> None:
        for seat in self._seats:
            seat.pool.close()


class _AnswerStream(httpx.SyncByteStream):
    """The body of an answer; httpx closes it once, when all is read or nobody wants more."""

    def __init__(self, answer: httpcore.Response, over: Callable[[], None]) -> None:
        self._answer = answer
        self._over = over

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        try:
            self._answer.close()
        finally:
            self._over()


def _pools(server: Server) -> Callable[[httpcore.NetworkBackend], httpcore.ConnectionPool]:
    """What makes a pool of one connection to this server, through its proxy where there is one."""
    options: dict[str, Any] = {
        "ssl_context": tls_context(server),
        "max_connections": 1,
        "http1": True,
        "http2": False,
        "retries": 0,
    }
    proxy = proxy_of(server)
    if proxy is None:
        return lambda network: httpcore.ConnectionPool(**options, network_backend=network)
    if proxy.scheme in _SOCKS:
        return lambda network: httpcore.SOCKSProxy(str(proxy), **options, network_backend=network)
    # RFC 7617, 2.1: what is not ASCII goes as UTF-8
    options["proxy_auth"] = (proxy.username.encode(), proxy.password.encode()) if proxy.username else None
    options["proxy_ssl_context"] = tls_context(server) if proxy.scheme == "https" else None
    bare = str(proxy.copy_with(username=None, password=None))
    return lambda network: httpcore.HTTPProxy(bare, **options, network_backend=network)


def tls_context(server: Server) -> ssl.SSLContext:
    """The system's trusted authorities, or server.ca_file alone, with our certificate when one is set.

    Raises Problem, naming the setting.
    """
    try:
        context = ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise Problem(
            "ca_file_unusable", f"server.ca_file {server.ca_file} can't be used: {error}."
        ) from None
    if server.client_cert is not None:
        try:
            context.load_cert_chain(server.client_cert, server.client_key)
        except (OSError, ssl.SSLError) as error:
            raise Problem(
                "client_cert_unusable", f"server.client_cert {server.client_cert} can't be used: {error}."
            ) from None
    return context


def proxy_of(server: Server) -> httpx.URL | None:
    """server.proxy, else what the environment says for this address (HTTPS_PROXY, NO_PROXY …).

    Raises:
        Problem: ``proxy_unusable``, without its words: they may hold a password.
    """
    given = server.proxy or _proxy_of_environment(server)
    if given is None:
        return None
    try:
        # 'proxy:3128' is enough in a variable, as for curl
        proxy = httpx.URL(given if "://" in given else f"http://{given}")
    except (httpx.InvalidURL, ValueError):
        proxy = httpx.URL()
    where = "server.proxy" if server.proxy is not None else "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
    if not proxy.host:
        raise Problem("proxy_unusable", f"{where} holds no usable address.", "Give it as http://host:3128.")
    if proxy.scheme not in ("http", "https", *(_SOCKS if find_spec("socksio") is not None else ())):
        summary = f"{where} names a proxy of a kind that can't be used here ({proxy.scheme})."
        raise Problem("proxy_unusable", summary, "Set server.proxy to an HTTP proxy.")
    return proxy


def _proxy_of_environment(server: Server) -> str | None:
    address = urlsplit(server.uploads_go_to)
    if address.hostname is None or urllib.request.proxy_bypass(address.hostname):
        return None
    found = urllib.request.getproxies_environment()
    return found.get(address.scheme) or found.get("all")
