"""A proxy takes a whole request before it notices that the application behind it is away, and answers 502.

After a request that makes a batch nobody could tell what became of it. So none goes out unless the server
was there a moment ago: an outage costs no file anything, however it is seen.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from omrwatchd import events
from omrwatchd.model import Job, Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation, Station
from tests.delivery.test_unknown import WAYS, copy_queue, lose
from tests.waiting import until

PAGE = b"<html><h1>502 Bad Gateway</h1></html>"
FRONT = b"<html>The front page</html>"
HTML = {"Content-Type": "text/html"}
_PASSED_ON = ("content-type", "retry-after")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port: ClassVar[int]
    status_when_away: ClassVar[int] = 502
    in_vain: ClassVar[list[str]]

    def do_GET(self) -> None:
        if self.path == "/api":  # a page of the proxy's own, as many have
            self._answer(200, HTML, FRONT)
        else:
            self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        behind = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            behind.request(self.command, self.path, body, kept)
            answer = behind.getresponse()
            kept = {name: value for name, value in answer.headers.items() if name.lower() in _PASSED_ON}
            self._answer(answer.status, kept, answer.read())
        except OSError:
            if body:
                self.in_vain.append(self.path)
            with contextlib.suppress(BrokenPipeError):  # the client has gone as well
                self._answer(self.status_when_away, HTML, PAGE)
        finally:
            behind.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_words: object) -> None:
        """Nothing on the test's standard error."""


class Proxy:
    """Its address, and the bodies that went into it for nothing."""

    def __init__(self, base_url: str, in_vain: list[str]) -> None:
        self.base_url = base_url
        self.in_vain = in_vain


@contextlib.contextmanager
def stand_in(port: int, **behaviour: object) -> Iterator[Proxy]:
    in_vain: list[str] = []
    handler = type("Handler", (_Handler,), {"port": port, "in_vain": in_vain, **behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Proxy(f"http://127.0.0.1:{server.server_address[1]}/api", in_vain)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NGINX = """
{user}daemon off; error_log stderr crit; pid {folder}/pid; worker_processes 1;
events {{}}
http {{
  client_max_body_size 0; client_body_temp_path {folder}/bodies;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  log_format bodies '$request_method $status $request_length $uri';
  access_log {folder}/access.log bodies;
  server {{
    listen unix:{folder}/front;
    listen 127.0.0.1:{own};
    location = /api {{ return 200 'front page'; }}
    location / {{ proxy_pass http://127.0.0.1:{port}; }}
  }}
}}
"""


class NginxLog(list[str]):
    """Read from the access log whenever it is asked for its length."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def __len__(self) -> int:
        lines = [line.split() for line in self._file.read_text().splitlines()]
        return sum(method == "POST" and status == "502" for method, status, _, _ in lines)


@contextlib.contextmanager
def nginx(port: int, folder: Path) -> Iterator[Proxy]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed here")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as free:
        own = free.server_address[1]
    folder.mkdir()
    user = "user root; " if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, own=own, port=port, user=user))
    process = subprocess.Popen([program, "-c", folder / "nginx.conf", "-p", folder])
    try:
        until(lambda: (folder / "front").exists() and (folder / "pid").exists(), what="nginx")
        yield Proxy(f"http://127.0.0.1:{own}/api", NginxLog(folder / "access.log"))
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["stand-in", "nginx"])
def proxy(request: pytest.FixtureRequest, receiver: Receiver, tmp_path: Path) -> Iterator[Proxy]:
    port = urlsplit(receiver.base_url).port
    assert port is not None
    with stand_in(port) if request.param == "stand-in" else nginx(port, tmp_path / "nginx") as running:
        yield running


def waits_unharmed(station: Station, *jobs: Job, attempts: int = 0) -> None:
    """Held, and no file has paid for it."""
    station.await_event(events.QueueHeld)
    for job in jobs:
        until(lambda job=job: station.job(job).status is Status.PENDING, what=f"{job.name} waits")  # type: ignore[misc]
        assert (station.job(job).attempts, station.job(job).failures) == (attempts, 0)
    assert not (station.folder / "failed").exists()


def test_whole_files_wait_until_the_application_is_back(
    proxy: Proxy, receiver: Receiver, open_station: OpenStation
) -> None:
    """None is sent into the void, where its outcome would be unknown."""
    receiver.stop()
    with open_station(server={"base_url": proxy.base_url}) as station:
        jobs = [station.drop(f"scan-{number}.zip", sheets=number) for number in (2, 3, 4, 5)]
        waits_unharmed(station, *jobs)
        assert len(proxy.in_vain) == 0
        receiver.start()
        for job in jobs:
            assert station.ends(job, Status.COMPLETED).attempts == 1
    assert len(receiver.batches) == 4


def test_application_that_goes_between_two_files(
    proxy: Proxy, receiver: Receiver, open_station: OpenStation
) -> None:
    """A good answer is no promise: the next file asks again."""
    with open_station(server={"base_url": proxy.base_url}) as station:
        station.ends(station.drop("first.zip"), Status.COMPLETED)
        receiver.stop()
        job = station.drop("second.zip", sheets=5)
        waits_unharmed(station, job)
        receiver.start()
        station.ends(job, Status.COMPLETED)
    assert len(proxy.in_vain) == 0


def test_front_page_that_answers_is_no_application(
    proxy: Proxy, receiver: Receiver, open_station: OpenStation
) -> None:
    """The proxy's own page at base_url says nothing of what is behind it, so no attempt is counted."""
    receiver.stop()
    with open_station(server={"base_url": proxy.base_url}) as station:
        job = station.drop(size=4 * MIB)
        for _ in range(3):
            waits_unharmed(station, job)
        until(lambda: station.worker._backoff._tries >= 3, what="two more probes")
        waits_unharmed(station, job)
        assert not station.announced(events.QueueReleased)
        receiver.start()
        assert station.ends(job, Status.COMPLETED, 60.0).attempts == 1


def stop_before_the_final_chunk(receiver: Receiver, open_station: OpenStation, base_url: str) -> Job:
    receiver.add_fault(Fault(match="chunk", chunk_index=3, action="status", status=429, retry_after=3000))
    with open_station(server={"base_url": base_url}) as station:
        job = station.drop(size=3 * MIB + 1000)
        station.await_event(events.ServerSlowedDown)
    receiver.clear_faults()
    return job


def test_lone_final_chunk_waits_as_well(proxy: Proxy, receiver: Receiver, open_station: OpenStation) -> None:
    """An upload that is taken up again with nothing but its final chunk owed."""
    job = stop_before_the_final_chunk(receiver, open_station, proxy.base_url)
    receiver.stop()
    with open_station(server={"base_url": proxy.base_url}) as station:
        waits_unharmed(station, job)
        assert len(proxy.in_vain) == 0
        receiver.start()
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 1


def test_resending_waits_for_the_application(
    proxy: Proxy, receiver: Receiver, open_station: OpenStation
) -> None:
    """The final chunk that is to be sent once more is kept back too, and its outcome stays open."""
    lose(receiver, "chunked", crash=True)
    sections = {"server": {"base_url": proxy.base_url}, "upload": {"on_unknown": "resend"}}
    with open_station(**sections) as station:
        job, queue = station.drop(size=WAYS["chunked"]), station.folder / "queue.db"
        until(lambda: len(receiver.batches) == 1, what="the batch")
        copy_queue(queue, queue.with_name("left.db"))
    receiver.clear_faults()
    receiver.stop()
    copy_queue(queue.with_name("left.db"), queue)
    with open_station(**sections) as station:
        waits_unharmed(station, job, attempts=1)
        assert station.job(job).in_doubt
        receiver.start()
        station.ends(job, Status.COMPLETED)
    assert len(receiver.batches) == 1


def test_upload_route_that_answers_a_probe_as_it_likes(receiver: Receiver, open_station: OpenStation) -> None:
    """Whatever a living server says to a GET there (405 here), the upload goes on."""
    with open_station() as station:
        station.ends(station.drop(), Status.COMPLETED)
        assert not station.announced(events.ChunkRetried)


def test_page_that_says_404_while_the_application_is_away_costs_no_chunk(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """As proxies answer that know a server only while it runs: the upload is not forgotten."""
    port = urlsplit(receiver.base_url).port
    assert port is not None
    with stand_in(port, status_when_away=404) as proxy:
        job = stop_before_the_final_chunk(receiver, open_station, proxy.base_url)
        receiver.stop()
        with open_station(server={"base_url": proxy.base_url}) as station:
            assert station.await_event(events.QueueHeld).code == "misconfigured"
            waits_unharmed(station, job)
            receiver.start()
            station.ends(job, Status.COMPLETED)
            assert not station.announced(events.UploadRestarted)
    assert [r.chunk_index for r in receiver.requests].count(0) == 1
