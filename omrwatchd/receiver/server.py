"""The server on a real socket: in the foreground as a process, or wherever a Listener is run."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import TRANSPORT
from .app import BASE, build
from .house import House

_GRACE = 0.2
"""Seconds that a request in flight is given when the server stops."""


class AbortableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, where the application reaches the connection and a stop does not wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        application: Any = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = self.transport
            await application(scope, receive, send)

        self.app = with_transport

    def shutdown(self) -> None:
        """Let the answer in hand leave, then end the connection whatever the client is doing."""
        super().shutdown()
        self.loop.call_later(_GRACE, self.transport.abort)


class Listener(uvicorn.Server):
    """A uvicorn server on a socket of ours, that tells when it listens and ends by returning."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None], **tls: Any) -> None:
        config = uvicorn.Config(
            app,
            http=AbortableProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            **tls,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say so."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal. uvicorn's own raises it once more at the end, and ``run`` would not return."""
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named, which socket.create_server() does not do;
    # without it each answer waits 40 ms for the client's delayed ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def base_url(host: str, port: int, *, tls: bool = False) -> str:
    """Where clients find the API."""
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}{BASE}"


def serve(
    directory: Path,
    token: str,
    host: str,
    port: int,
    control: bool,
    *,
    ready: Callable[[str], None] | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
) -> None:
    """Run in the foreground until SIGTERM or SIGINT, then return. For a process's main thread.

    Args:
        directory: where sessions and batches are kept; a later run with the same one knows them.
        ready: called once with the base URL when the server listens.

    Raises:
        OSError: the port can't be had, or a certificate file can't be read.
    """
    app = build(House(directory, token), control=control)
    listening = listen(host, port)
    url = base_url(host, listening.getsockname()[1], tls=ssl_certfile is not None)

    def announce() -> None:
        if ready is not None:
            ready(url)

    Listener(app, announce, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile).run(sockets=[listening])
