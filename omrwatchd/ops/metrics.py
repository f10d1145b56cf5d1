"""The door for Prometheus: answers GET /metrics on the address of `metrics.listen`."""

from __future__ import annotations

import logging
import os
import selectors
import socket
from collections.abc import Callable, Iterable
from http.server import HTTPServer
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from omrwatchd import events
from omrwatchd.errors import Problem
from omrwatchd.events import Announce
from omrwatchd.lifecycle import Died, Service

CLIENT_SECONDS = 10.0
"""A client that says nothing for so long is let go."""

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    timeout = 0  # handle_request takes the one connection that is there, and waits for none

    def server_bind(self) -> None:
        """Bind, without the look-up of our own name that HTTPServer does: a name server may be away."""
        super(HTTPServer, self).server_bind()
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair; the rest is said in one line of the log."""
        logging.getLogger(__name__).warning("a scrape by %s failed", client_address, exc_info=True)


class MetricsServer(Service):
    """Listens from its making on; answers from its start on, a thread a request."""

    def __init__(
        self, address: tuple[str, int], registry: CollectorRegistry, announce: Announce, on_death: Died
    ) -> None:
        """Raises Problem, ``metrics_address``, when the address can't be had."""
        super().__init__("metrics", on_death)
        self._announce = announce
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._server = _listening(address)
        except Problem:
            os.close(self._wake)
            raise
        self._server.set_app(_only_metrics(make_wsgi_app(registry)))

    @property
    def address(self) -> str:
        """As it is in an address of the web, with the port that is really used."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def stop(self) -> None:
        if not self.stopping:
            super().stop()
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """After the join: give the address back."""
        self._server.server_close()
        os.close(self._wake)

    def run(self) -> None:
        self._announce(events.MetricsServed(self.address))
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._server, selectors.EVENT_READ)
            waiting.register(self._wake, selectors.EVENT_READ)
            while not self.stopping:
                for key, _ready in waiting.select():
                    if key.fileobj is self._server:
                        self._server.handle_request()


def _listening(address: tuple[str, int]) -> _Server:
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _type, _protocol, _name, place = found[0]
        kind = type("_ServerOfFamily", (_Server,), {"address_family": family})
        server: _Server = kind((str(place[0]), port), _Handler)
    except OSError as error:
        raise Problem(
            "metrics_address",
            f"metrics.listen {host}:{port} can't be used: {error.strerror or error}.",
            "Name a free port of this machine.",
        ) from None
    return server


def _only_metrics(app: App) -> App:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in ("/metrics", "/"):
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"The metrics are at /metrics.\n"]

    return answer
