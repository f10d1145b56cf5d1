"""The way breaks off while the intent is committed: the last bytes never left, so there is no doubt."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, event

from omrwatchd.events import ChunkRetried
from omrwatchd.model import Status
from omrwatchd.receiver import Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation

BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>"


class Gateway:
    """Passes connections on to the server, until it breaks them off."""

    def __init__(self, receiver: Receiver) -> None:
        address = urlsplit(receiver.base_url)
        self._server = (address.hostname, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{address.path}"
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            while True:
                self._threads.append(threading.Thread(target=self._serve, args=self._listener.accept()[:1]))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            self._clients.append(client)
            answers = threading.Thread(target=_pass_on, args=(server, client))
            answers.start()
            _pass_on(client, server)
            answers.join()

    def break_off(self, answer: bytes) -> None:
        """With an answer, or without one: then the connections are reset."""
        for client in self._clients:
            if answer:
                client.sendall(answer)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.shutdown(socket.SHUT_WR if answer else socket.SHUT_RD)
        for thread in self._threads[1:] if not answer else []:
            thread.join()  # with its socket closed: the reset is on its way

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RD)
            end.shutdown(socket.SHUT_WR) if end is target else None


@pytest.fixture
def gateway(receiver: Receiver) -> Iterator[Gateway]:
    running = Gateway(receiver)
    yield running
    running.close()


@pytest.fixture(params=[b"", BAD_GATEWAY], ids=["reset", "502"])
def breaks_off(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[list[str]]:
    """When the last bytes are about to go out for the first time."""
    seen: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_of: Any) -> None:
        if statement.startswith("UPDATE parts SET final_sent_at") and not seen:
            seen.append(statement)
            gateway.break_off(request.param)

    event.listen(Engine, "before_cursor_execute", look)
    yield seen
    event.remove(Engine, "before_cursor_execute", look)


@pytest.mark.parametrize("size", [3_000, 3 * MIB], ids=["direct", "chunked"])
def test_end_that_never_left_is_sent_again(
    receiver: Receiver, gateway: Gateway, breaks_off: list[str], open_station: OpenStation, size: int
) -> None:
    """One more attempt, one batch, nobody's work."""
    with open_station(server={"base_url": gateway.base_url}) as station:
        job = station.drop(size=size)
        station.ends(job, Status.COMPLETED)
        assert breaks_off
        assert len(station.announced(ChunkRetried)) == 1
    assert len(receiver.batches) == 1
