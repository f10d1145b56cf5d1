"""The one place that speaks HTTP. Foreign errors are translated here, once."""

from __future__ import annotations

import socket
import ssl
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpcore
import httpx

from omrwatchd import __version__
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.quoting import token_cut, without_token
from omrwatchd.delivery.sockets import Sockets, WatchedNetwork
from omrwatchd.delivery.wire import CHUNK_PATH, DIRECT_PATH, Answer
from omrwatchd.errors import Problem
from omrwatchd.settings import Server, Upload
from omrwatchd.sheets.source import Piece

KEEPALIVE_SECONDS = 60.0
"""httpx's own 5 s is exactly our cooldown: each file would begin with a new handshake."""
_ANSWER_BYTES = 256 * 1024
_SOCKS = ("socks5", "socks5h")
_ZLIB_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""By Content-Encoding, the window bits that zlib wants (RFC 9110, 8.4.1)."""


class RequestLost(Exception):
    """A request that got no answer."""

    def __init__(self, how: Lost, detail: str, *, stale: bool = False, untaken: bool = False) -> None:
        super().__init__(detail)
        self.how = how
        self.detail = detail.rstrip(".")
        self.stale = stale
        """It was on a kept connection, which the server may have closed already."""
        self.untaken = untaken
        """Nothing of its latest piece, and nothing behind that, has gone out."""


class Transport(Protocol):
    """What the delivery needs of a connection to the server."""

    def send(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[Piece] | None = None,
        *,
        token: str | None,
    ) -> Answer:
        """Raises RequestLost; what ``body`` raises passes through. Without a token: to log in."""
        ...

    def wake(self) -> None:
        """End all connections; threads blocked in ``send`` get their error at once."""
        ...


class Client:
    """One httpx.Client for all threads: HTTP/1.1, no redirects, no retries of its own."""

    def __init__(self, server: Server, upload: Upload) -> None:
        self._base, self._uploads = server.base_url, server.uploads_go_to
        self._sockets = Sockets()
        self._handover = Handover()
        network = WatchedNetwork(self._sockets, self._handover)
        self._client = httpx.Client(
            transport=_PoolTransport(server, upload.concurrency, network),
            headers={
                "User-Agent": f"omrwatchd/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(
                connect=server.connect_timeout,
                read=server.read_timeout,
                write=upload.stall_seconds,
                pool=server.connect_timeout,
            ),
            follow_redirects=False,
        )

    def send(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[Piece] | None = None,
        *,
        token: str | None,
    ) -> Answer:
        is_new = False

        def trace(event: str, _info: object) -> None:
            nonlocal is_new
            is_new = is_new or event == "connection.connect_tcp.started"

        self._handover.clear()
        authorisation = [] if token is None else [("Authorization", f"Bearer {token}")]
        try:
            request = self._client.build_request(
                method,
                self._address(path),
                headers=[*headers, *authorisation],
                content=None if body is None else self._handover.stand_ins(body),
                extensions={"trace": trace},
            )
        except (httpx.InvalidURL, UnicodeError) as error:  # a name that IDNA does not know (RFC 5891)
            raise RequestLost(Lost.DNS, str(error)) from error
        try:
            response = self._client.send(request, stream=True)
            try:
                names = {name.lower(): value for name, value in response.headers.items()}
                said = token_cut(token, _first_bytes(response))
                return Answer(response.status_code, names, said, untaken=not self._handover.taken)
            finally:
                response.close()
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            lost = _translated(error, token)
            lost.stale = not is_new and lost.how is Lost.RESET
            lost.untaken = not self._handover.taken
            raise lost from error
        except (httpcore.ProxyError, httpcore.UnsupportedProtocol) as error:
            raise RequestLost(Lost.PROXY, without_token(token, str(error))) from error
        except zlib.error as error:
            raise RequestLost(Lost.PROTOCOL, "its compression is broken") from error

    def _address(self, path: str) -> str:
        """Uploads, and the bare probe of the way they go, have an address of their own where one is set."""
        return (self._uploads if path in ("", DIRECT_PATH, CHUNK_PATH) else self._base) + path

    def wake(self) -> None:
        self._sockets.wake_all()

    def close(self) -> None:
        self._client.close()


def _first_bytes(response: httpx.Response) -> bytes:
    """No compression is asked for; some proxies do it all the same.

    httpx would unpack whatever comes at once: of a kilobyte, packed twice, a gigabyte. Of a coding that is
    not known here the bytes stay as they are; the status tells enough.
    """
    window = _ZLIB_WINDOWS.get(response.headers.get("content-encoding", "").strip().lower())
    unpacker = None if window is None else zlib.decompressobj(window)
    body = b""
    for block in response.iter_raw():
        body += block if unpacker is None else unpacker.decompress(block, _ANSWER_BYTES - len(body))
        if len(body) >= _ANSWER_BYTES:
            break
    return body[:_ANSWER_BYTES]


def _translated(error: Exception, token: str | None) -> RequestLost:
    cause = _deepest(error)
    if isinstance(error, httpcore.ConnectError):
        if isinstance(cause, socket.gaierror):
            return RequestLost(Lost.DNS, cause.strerror or str(cause))
        if isinstance(cause, ssl.SSLError):
            return RequestLost(Lost.TLS, str(cause))
        return RequestLost(Lost.CONNECT, getattr(cause, "strerror", None) or str(error))
    if isinstance(error, httpcore.ConnectTimeout | httpcore.PoolTimeout):
        return RequestLost(Lost.CONNECT, "timed out")
    if isinstance(error, httpcore.ReadTimeout):
        return RequestLost(Lost.READ_TIMEOUT, "")
    if isinstance(error, httpcore.WriteTimeout):
        return RequestLost(Lost.WRITE_TIMEOUT, "")
    if isinstance(error, httpcore.RemoteProtocolError) and "disconnected" not in str(error):
        return RequestLost(Lost.PROTOCOL, without_token(token, str(error)))  # quotes what came
    return RequestLost(Lost.RESET, str(cause) or str(error))


def _deepest(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


class _PoolTransport(httpx.BaseTransport):
    """httpx on a pool whose network is ours; httpx's own transport takes no network backend."""

    def __init__(self, server: Server, concurrency: int, network: httpcore.NetworkBackend) -> None:
        options: dict[str, Any] = {
            "ssl_context": tls_context(server),
            "max_connections": concurrency + 2,
            "max_keepalive_connections": concurrency + 2,
            "keepalive_expiry": KEEPALIVE_SECONDS,
            "http1": True,
            "http2": False,
            "retries": 0,
            "network_backend": network,
        }
        proxy = proxy_of(server)
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        elif proxy.scheme in _SOCKS:
            self._pool = httpcore.SOCKSProxy(str(proxy), **options)
        else:
            # RFC 7617, 2.1: what is not ASCII goes as UTF-8
            login = (proxy.username.encode(), proxy.password.encode()) if proxy.username else None
            bare = str(proxy.copy_with(username=None, password=None))
            to_proxy = tls_context(server) if proxy.scheme == "https" else None
            self._pool = httpcore.HTTPProxy(bare, proxy_auth=login, proxy_ssl_context=to_proxy, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
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
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_AnswerStream(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _AnswerStream(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


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


def on_living_connection(ask: Callable[[], Answer], may_again: Callable[[], bool]) -> Answer:
    """The answer; asked once more when a kept connection proves dead, for the next is new or proves alive.

    Raises RequestLost, and what ``ask`` raises.
    """
    try:
        return ask()
    except RequestLost as lost:
        if not lost.stale or not may_again():
            raise
    return ask()


def authorised(
    transport: Transport,
    credentials: Credentials,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]] = (),
    make_body: Callable[[], Iterable[Piece] | None] = lambda: None,
) -> Answer:
    """Send with the token, and once more with a renewed one when it is rejected.

    Raises RequestLost, Problem (no usable token), and what the body raises.
    """
    token = credentials.token()
    answer = transport.send(method, path, headers, make_body(), token=token)
    if answer.status == 401 and credentials.renew(token):
        answer = transport.send(method, path, headers, make_body(), token=credentials.token())
    return answer
