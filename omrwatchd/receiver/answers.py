"""What goes back to the client: JSON, a proxy's HTML page, or a connection that just ends."""

from __future__ import annotations

import http
import socket
import struct

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

TRANSPORT = "omrwatchd.transport"
"""The ASGI extension under which the connection's asyncio transport is found."""

_LINGER_NONE = struct.pack("ii", 1, 0)

_PROXY_PHRASES = {
    499: "Client Closed Request",
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
    525: "SSL handshake failed",
    526: "Invalid SSL certificate",
    530: "Origin DNS error",
}


class Refusal(Exception):
    """A request that is turned down: a status and a sentence for its sender.

    Args:
        html: answered by what stands between (nginx, Cloudflare), so as a page and not as JSON.
    """

    def __init__(self, status: int, message: str, *, html: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.html = html

    def answer(self) -> Response:
        """The answer that says so."""
        return proxy_page(self.status) if self.html else error(self.status, self.message)


class Interrupted(Exception):
    """The request ends here with this answer, whatever of its body is still to come."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def error(status: int, message: str) -> Response:
    """The server's own error: ``{"message": …}``."""
    return JSONResponse({"message": message}, status_code=status)


def proxy_page(status: int) -> Response:
    """An error page as nginx writes it."""
    try:
        phrase = _PROXY_PHRASES.get(status) or http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    title = f"{status} {phrase}"
    return HTMLResponse(
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
        status_code=status,
    )


class Hangup(Response):
    """No answer: the connection ends.

    Args:
        reset: with a TCP reset, as a crash does it; else with a plain end of stream.
    """

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drop the connection and wait until it is gone, so that nothing is answered after all."""
        transport = scope["extensions"][TRANSPORT]
        if self.reset and not transport.is_closing():
            # A linger time of zero makes close() send RST (socket(7)); without it the client may see FIN.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
        await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Return when the client's connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def peer_port(request: Request) -> int:
    """The client's port: tells its connections apart."""
    return request.client.port if request.client else 0
