from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from omrwatchd.clock import SystemClock
from omrwatchd.delivery.body import BlockSize, Body
from omrwatchd.delivery.chunks import Chunk
from omrwatchd.delivery.client import RequestLost
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Kind, Lost
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.probe import Probe
from omrwatchd.delivery.retry import Attempts, Failed, Pause, Sender
from omrwatchd.delivery.wire import Answer, prepare_chunk
from omrwatchd.model import Metadata
from omrwatchd.settings import Server, Upload
from omrwatchd.sheets.source import FileSource, Piece


class LateRefusal:
    """Takes a whole body before it says 401, and is away the next time."""

    def send(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[Piece] | None = None,
        *,
        token: str | None,
    ) -> Answer:
        if method == "GET":
            return Answer(405, {}, b"")
        if token == "new":
            raise RequestLost(Lost.CONNECT, "refused")
        assert len(list(body or ())) == 3
        return Answer(401, {}, b'{"message": "token"}')

    def wake(self) -> None:
        """Nothing blocks."""


def test_late_401_with_an_outage_behind_it_leaves_no_doubt(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The whole final chunk was refused for its token, its second try never left: surely no batch."""
    tokens = iter(["old", "new"])
    clock, halt = SystemClock(), Halt(lambda: None)
    credentials = Credentials(Server(base_url="http://127.0.0.1:9/api"), lambda: next(tokens))
    server = LateRefusal()
    probe = Probe(server, credentials, "", clock)
    sender = Sender(server, credentials, probe, clock, Pause(clock), halt)
    request = prepare_chunk("a.zip", Chunk(1, 2, 0, 4), "u", Metadata(), "b", "k")
    path = tmp_path / "a.zip"
    path.write_bytes(b"file")
    definite = threading.Event()
    with path.open("rb") as file:
        found = path.stat()
        source = FileSource(file.fileno(), found.st_size, found.st_mtime_ns)

        def body() -> Body:
            return Body(
                request,
                source,
                halt,
                progress=lambda _sent: None,
                before_last=definite.clear,
                limit=RateLimit(Upload(), clock),
                block_size=BlockSize(),
                clock=clock,
            )

        with pytest.raises(Failed) as failed:
            sender.send(request, body, Attempts(1, lambda *_: None, lambda _: None, definite.set))
    assert failed.value.fault.kind is Kind.OUTAGE
    assert definite.is_set()
