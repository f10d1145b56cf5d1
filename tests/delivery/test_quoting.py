"""A server that says our token back, in every way in which its words can reach a person or a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from omrwatchd import events
from omrwatchd.delivery.quoting import token_cut, without_token
from omrwatchd.model import Status
from tests.delivery.conftest import OpenStation
from tests.waiting import until

TOKEN = "t0p+s3cret/tok3n=="
"""With the characters that JSON libraries like to escape."""


def refusal(spelling: str) -> bytes:
    body = b'{"message": "You said Bearer %s to me"}' % spelling.encode()
    head = (
        f"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def as_it_is(token: str) -> bytes:
    return refusal(token)


def with_slashes_escaped(token: str) -> bytes:
    """As PHP's json_encode writes it."""
    return refusal(token.replace("/", r"\/"))


def with_signs_escaped(token: str) -> bytes:
    """As System.Text.Json writes it."""
    return refusal(token.replace("+", r"\u002B").replace("=", r"\u003d"))


def all_escaped(token: str) -> bytes:
    return refusal("".join(rf"\u{ord(letter):04x}" for letter in token))


def no_http(token: str) -> bytes:
    return f"You said Bearer {token} to me\r\n\r\n".encode()


def no_header(token: str) -> bytes:
    return f"HTTP/1.1 422 No\r\nYou said Bearer {token} to me\r\n\r\n".encode()


@contextmanager
def echoing(words: Callable[[str], bytes], *, probes: bool = False) -> Iterator[str]:
    """A server that reads a request whole and answers with the token in it; its base URL.

    A probe gets such an answer only where that is asked for.
    """

    class Echo(StreamRequestHandler):
        def handle(self) -> None:
            length, said = 0, ""
            is_probe = self.rfile.readline().startswith(b"GET ")
            while (line := self.rfile.readline().decode().strip()) != "":
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
                if name.lower() == "authorization":
                    said = value.split()[-1]
            self.rfile.read(length)
            self.wfile.write(words(said) if probes or not is_probe else b"HTTP/1.1 405 No\r\n\r\n")

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "words", [as_it_is, with_slashes_escaped, with_signs_escaped, all_escaped, no_http, no_header]
)
def test_token_that_is_said_back_stands_nowhere(
    tmp_path: Path, open_station: OpenStation, words: Callable[[str], bytes]
) -> None:
    """Not in the job's problem, not in an event, not in any file: queue, summary log, text in failed/."""
    with echoing(words) as address, open_station(server={"base_url": address, "token": TOKEN}) as station:
        job = station.ends(station.drop(), Status.ERROR)
        assert job.problem is not None
        assert "You said Bearer *** to me" in job.problem.sentence()
        assert TOKEN not in repr(station.events)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"queue.db", "summary.jsonl", "scan.zip.error.txt"}
    assert [path.name for path in written if TOKEN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("words", [no_http, no_header])
def test_token_that_is_said_back_to_a_probe_is_no_reason_for_a_hold(
    tmp_path: Path, open_station: OpenStation, words: Callable[[str], bytes]
) -> None:
    """The queue is held with the server's words, but for the token."""
    address = {"token": TOKEN}
    with (
        echoing(words, probes=True) as address["base_url"],
        open_station(server=address) as station,
    ):
        station.drop()
        assert "You said Bearer *** to me" in station.await_event(events.QueueHeld).reason
        until(lambda: "You said Bearer *** to me" in (station.tools_row().reason or ""))
        assert TOKEN not in repr(station.events)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in written if TOKEN.encode() in path.read_bytes()] == []


def test_spelling_of_another_word_stays() -> None:
    """Only the whole token is cut out; what merely begins like it, and what holds it twice, are right."""
    assert without_token(TOKEN, "t0p+s3cret/tok3n= is not it") == "t0p+s3cret/tok3n= is not it"
    assert without_token(TOKEN, f"{TOKEN}{TOKEN} \udce4") == "****** \udce4"
    assert without_token("short", "a short word") == "a short word"
    assert without_token(None, "a word") == "a word"
    assert json.loads(token_cut('a\\b"cdef', json.dumps({"message": 'a\\b"cdef!'}).encode())) == {
        "message": "***!"
    }
