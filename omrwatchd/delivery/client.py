"""The one place that speaks HTTP. Foreign errors are translated here, once."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Callable, Iterable
from typing import Protocol

import httpcore
import httpx

from omrwatchd import __version__
from omrwatchd.delivery.connections import Connections
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.network import WatchedNetwork
from omrwatchd.delivery.quoting import token_cut, without_token
from omrwatchd.delivery.sockets import Sockets
from omrwatchd.delivery.wire import CHUNK_PATH, DIRECT_PATH, Answer
from omrwatchd.settings import Server, Upload
from omrwatchd.sheets.source import Piece

_ANSWER_BYTES = 256 * 1024
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
        self._client = httpx.Client(
            transport=Connections(
                server, upload.concurrency + 2, lambda: WatchedNetwork(self._sockets, self._handover)
            ),
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
