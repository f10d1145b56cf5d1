"""However a server keeps us waiting, a stop, a cancel and a `resume` are heeded within a second."""

# ruff: noqa: F811 - a fixture of another module is a parameter here
from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.delivery.client import Client, RequestLost
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.lanes import Lanes
from omrwatchd.model import Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB, Server, Upload
from omrwatchd.sheets.source import FileSource
from tests.delivery.conftest import GATE, OpenStation, Station, within
from tests.delivery.test_sockets import Peer, certificate, over_tls, read_headers, send  # noqa: F401
from tests.waiting import until


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """Nobody accepts, and there is no room left to wait: the kernel drops what asks for a connection."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Takes connections and says nothing, not even in TLS."""
    over = threading.Event()
    peer = Peer(lambda _connection: over.wait(60) and None)
    yield peer.port
    over.set()
    peer.close()


def cancelled_at_once(station: Station, size: int, ready: Callable[[], object]) -> None:
    job = station.drop(size=size)
    until(lambda: station.job(job).status is Status.UPLOADING and ready(), what="the upload")
    with station.operator() as control, within(1.0):
        control.cancel(job.id)
        until(lambda: station.job(job).status is Status.ABORTED, what="the cancel")


def stopped_at_once(station: Station, size: int, ready: Callable[[], object]) -> None:
    job = station.drop(size=size)
    until(lambda: station.job(job).status is Status.UPLOADING and ready(), what="the upload")
    with within(1.0):
        station.worker.stop()
        assert station.worker.join(1.0)
    assert station.job(job).status is Status.PENDING


@pytest.mark.parametrize("end", [cancelled_at_once, stopped_at_once])
def test_while_it_connects(full_backlog: str, open_station: OpenStation, end: Callable[..., None]) -> None:
    """No answer to the first packet of a connection: a firewall that swallows, a host that is away."""
    server = {"base_url": full_backlog, "connect_timeout": 30}
    with open_station(server=server) as station:
        end(station, 1000, lambda: any(thread.name == "connect" for thread in threading.enumerate()))


@pytest.mark.parametrize("end", [cancelled_at_once, stopped_at_once])
def test_while_tls_is_agreed_on(
    silent_server: int, open_station: OpenStation, end: Callable[..., None]
) -> None:
    """The connection is there, and the server's part of the handshake does not come."""
    server = {"base_url": f"https://127.0.0.1:{silent_server}/api", "connect_timeout": 30}
    with open_station(server=server) as station:
        end(station, 1000, lambda: station.announced(events.UploadStarted))


@pytest.mark.parametrize("end", [cancelled_at_once, stopped_at_once])
@pytest.mark.parametrize("takes", ["nothing", "everything"])
def test_over_tls(
    certificate: Path,
    open_station: OpenStation,
    end: Callable[..., None],
    takes: str,
) -> None:
    """Blocked in a send, or waiting for the answer to a body that was taken whole."""
    over = threading.Event()
    swallowed = threading.Event()

    def serve(connection: socket.socket) -> None:
        if takes == "everything":
            left = int(read_headers(connection).lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while left > 70_000 and (data := connection.recv(65536)):
                left -= len(data)
        swallowed.set()
        over.wait(60)

    peer = Peer(over_tls(certificate, serve))
    server = {"base_url": f"https://127.0.0.1:{peer.port}/api", "ca_file": certificate}
    with open_station(server=server, upload={"chunk_size": 16 * MIB}) as station:
        end(station, 40 * MIB, swallowed.is_set)
    over.set()
    peer.close()


@pytest.mark.parametrize("what", ["status", "start"])
def test_cancel_while_the_gate_gives_no_answer(
    receiver: Receiver, open_station: OpenStation, what: str
) -> None:
    """A question about the OMR queue that hangs does not keep a cancel waiting."""
    receiver.add_fault(Fault(match=what, action="delay", seconds=100))  # type: ignore[arg-type]
    with open_station(processing=GATE) as station:
        job = station.drop()
        until(lambda: any(request.kind == what for request in receiver.requests), what="the question")
        with station.operator() as control, within(1.0):
            control.cancel(job.id)
            until(lambda: station.job(job).status is Status.ABORTED, what="the cancel")


def test_resume_and_stop_while_a_probe_gets_no_answer(
    receiver: Receiver, silent_server: int, open_station: OpenStation
) -> None:
    """The server takes the probe's connection and is silent: `resume` goes on at once, as does a stop."""
    receiver.add_fault(Fault(match="upload", action="status", status=530, times=-1))
    server = {"base_url": f"http://127.0.0.1:{silent_server}/api", "upload_url": receiver.base_url}
    with open_station(server=server) as station:
        station.drop()
        station.await_event(events.QueueHeld)
        until(lambda: station.hold_age() > 7, what="the first probe")  # after 5 s of the daemon's clock
        with station.operator() as control, within(1.0):
            control.pause(False)
            station.await_event(events.QueueReleased, 1.0)
        until(lambda: len(station.announced(events.QueueHeld)) == 2, what="the second hold")
        assert station.tools_row().state is WorkerState.HELD
        until(lambda: station.hold_age() > 13, what="its probe")
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)


@pytest.mark.parametrize("kind", ["http", "https"])
def test_answer_that_comes_while_a_send_is_blocked(
    tmp_path: Path,
    certificate: Path,
    kind: str,
) -> None:
    """A server that refuses, and then reads no more: seen at once, not after upload.stall_seconds."""
    over = threading.Event()

    def refuse(connection: socket.socket) -> None:
        read_headers(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        over.wait(60)

    peer = Peer(over_tls(certificate, refuse) if kind == "https" else refuse)
    large = tmp_path / "large.zip"
    with large.open("wb") as made:
        made.truncate(200 * MIB)
    client = Client(
        Server(base_url=f"{kind}://127.0.0.1:{peer.port}", ca_file=certificate), Upload(stall_seconds=30)
    )
    with large.open("rb") as opened, within(5.0):
        seen = os.fstat(opened.fileno())
        source = FileSource(opened.fileno(), seen.st_size, seen.st_mtime_ns)
        assert send(client, source, length=seen.st_size) == 413
    client.close()
    over.set()
    peer.close()


def test_books_that_can_not_be_kept_end_the_lanes() -> None:
    """The queue's disk is full: what is under way ends at once, not when a server pleases to answer."""
    given_up = threading.Event()

    def full(_done: object) -> None:
        raise OSError("the disk is full")

    tasks: dict[int, Callable[[], object]] = {0: lambda: "done", 1: lambda: given_up.wait(30)}
    with ThreadPoolExecutor(2) as pool:
        lanes = Lanes(pool, given_up.set)
        with within(5.0), pytest.raises(OSError, match="full"):
            lanes.run(tasks, lambda: None, full)
    assert given_up.is_set()


def test_connection_that_comes_too_late_is_closed(full_backlog: str) -> None:
    """A wake does not wait for a connect; no file descriptor is left behind by it."""
    client = Client(Server(base_url=full_backlog, connect_timeout=1), Upload())
    before = len(os.listdir("/proc/self/fd"))

    def ask() -> Lost | None:
        try:
            client.send("GET", "", token=None)
        except RequestLost as lost:
            return lost.how
        return None

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        until(lambda: any(thread.name == "connect" for thread in threading.enumerate()))
        with within(0.5):
            client.wake()
            assert asked.result() is Lost.CONNECT
    until(lambda: not any(thread.name == "connect" for thread in threading.enumerate()), 10)
    assert len(os.listdir("/proc/self/fd")) <= before
    client.close()


def test_cancel_ends_a_send_that_is_blocked(swallowing_server: str, open_station: OpenStation) -> None:
    """The server takes no byte more; a cancel is over within a second all the same."""
    with open_station(server={"base_url": swallowing_server}, upload={"chunk_size": 16 * MIB}) as station:
        job = station.drop(size=40 * MIB)
        until(lambda: station.job(job).parts[0].bytes_sent > 0, what="first bytes")
        with station.operator() as control, within(1.0):
            control.cancel(job.id)
            until(lambda: station.job(job).status is Status.ABORTED, what="the cancel")


def test_stop_ends_a_send_that_is_blocked(swallowing_server: str, open_station: OpenStation) -> None:
    """As does a stop; the job waits for the next start."""
    with open_station(server={"base_url": swallowing_server}, upload={"chunk_size": 16 * MIB}) as station:
        job = station.drop(size=40 * MIB)
        until(lambda: station.job(job).parts[0].bytes_sent > 0, what="first bytes")
        with within(1.0):
            station.worker.stop()
            assert station.worker.join(1.0)
        assert station.job(job).status is Status.PENDING
