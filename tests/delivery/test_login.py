"""[server.login]: a token that the server hands out, and again when it has expired."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.model import Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation
from tests.waiting import until


class LoginServer:
    """Hands out the receiver's present token to who knows the password."""

    def __init__(self, receiver: Receiver) -> None:
        self.logins = 0
        self.locked = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.logins += 1
                good = asked == {"username": "scanner", "password": "geheim"} and not outer.locked
                body: dict[str, Any] = {"data": {"jwt": receiver.token}} if good else {"message": "no"}
                data = json.dumps(body).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/api"

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def login(receiver: Receiver) -> Iterator[LoginServer]:
    server = LoginServer(receiver)
    yield server
    server.close()


def sections(login: LoginServer, receiver: Receiver, folder: Path) -> dict[str, Any]:
    (folder / "password").write_text("geheim\n")
    return {
        "base_url": login.base_url,
        "upload_url": receiver.base_url,
        "token": None,
        "login": {
            "path": "/login",
            "username": "scanner",
            "password_file": folder / "password",
            "token_field": "data.jwt",
        },
    }


def test_token_is_fetched_and_fetched_again_once_for_all_threads(
    tmp_path: Path, login: LoginServer, receiver: Receiver, open_station: OpenStation
) -> None:
    """One login at the start, one more when the token expires in the middle of four chunks."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="token", token="another"))
    with open_station(server=sections(login, receiver, tmp_path)) as station:
        job = station.ends(station.drop(size=6 * MIB), Status.COMPLETED)
        assert job.attempts == 1
        assert not station.announced(events.QueueHeld)
    assert login.logins == 2
    assert len(receiver.batches) == 1


def test_rejected_login_holds_the_queue_and_heals(
    tmp_path: Path, login: LoginServer, receiver: Receiver, open_station: OpenStation
) -> None:
    """A locked account costs no file anything; when it is unlocked, delivery goes on by itself."""
    login.locked = True
    with open_station(server=sections(login, receiver, tmp_path)) as station:
        job = station.drop()
        hold = station.await_event(events.QueueHeld)
        assert hold.code == "login_rejected"
        assert "geheim" not in hold.reason
        until(lambda: login.logins >= 2, what="the probe's login")
        login.locked = False
        station.ends(job, Status.COMPLETED)


def test_login_server_that_is_away_is_an_outage(
    tmp_path: Path, login: LoginServer, receiver: Receiver, open_station: OpenStation
) -> None:
    """No token can be had because nobody answers: held as an outage, no file fails."""
    table = sections(login, receiver, tmp_path)
    login.close()
    with open_station(server=table) as station:
        job = station.drop()
        assert station.await_event(events.QueueHeld).code == "server_unreachable"
        until(lambda: station.job(job).status is Status.PENDING)
