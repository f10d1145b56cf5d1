"""Whatever is in the way to the server: the queue is held, no file pays for it, and it goes on by itself."""

# ruff: noqa: F811 - a fixture of another module is a parameter here
from __future__ import annotations

import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.model import Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation, within
from tests.delivery.test_sockets import Peer, certificate, over_tls, read_headers  # noqa: F401
from tests.waiting import until


def nobody_there() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def refuses_to_connect(connection: socket.socket) -> None:
    read_headers(connection)
    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")


def answers_in_plain(connection: socket.socket) -> None:
    """As a server that expects http: it does not wait for the headers that a TLS hello never has."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hangs_up(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    ("way", "code"),
    [
        ("connect", "server_unreachable"),
        ("dns", "dns_failed"),
        ("no name", "dns_failed"),
        ("untrusted certificate", "tls_failed"),
        ("no tls", "tls_failed"),
        ("proxy away", "server_unreachable"),
        ("proxy refuses", "proxy_failed"),
    ],
)
def test_outage_of_each_kind(
    certificate: Path, receiver: Receiver, open_station: OpenStation, way: str, code: str
) -> None:
    """Held with the reason; pending, with no attempt counted; delivered once the way is mended."""
    peer = Peer(
        {
            "untrusted certificate": over_tls(certificate, hangs_up),
            "no tls": answers_in_plain,
            "proxy refuses": refuses_to_connect,
        }.get(way, hangs_up)
    )
    behind_proxy = {"base_url": "https://omr.invalid/api"}
    servers: dict[str, dict[str, Any]] = {
        "connect": {"base_url": nobody_there()},
        "dns": {"base_url": "http://omr.invalid/api"},
        "no name": {"base_url": "http://xn--a/api"},
        "untrusted certificate": {"base_url": f"https://127.0.0.1:{peer.port}"},
        "no tls": {"base_url": f"https://127.0.0.1:{peer.port}"},
        "proxy away": behind_proxy | {"proxy": nobody_there()},
        "proxy refuses": behind_proxy | {"proxy": f"http://127.0.0.1:{peer.port}"},
    }
    with open_station(server=servers[way]) as station:
        job = station.drop()
        held = station.await_event(events.QueueHeld)
        assert held.code == code
        until(lambda: station.job(job).status is Status.PENDING)
        assert (station.job(job).attempts, station.job(job).failures) == (0, 0)
        until(lambda: station.tools_row().state is WorkerState.HELD)
        worker = station.tools_row()
        assert (worker.reason or "").startswith(held.reason)  # and what to do
        assert time.time() - 30 < worker.since <= time.time()
        assert not (station.folder / "failed").exists()
    peer.close()
    with open_station() as station:
        assert station.ends(job, Status.COMPLETED).attempts == 1
    assert len(receiver.batches) == 1


def test_probes_come_less_and_less_often_up_to_five_minutes(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """An outage of any length is asked after, gently; `resume` does not wait for the next time."""
    receiver.stop()
    with open_station() as station:
        waits = [station.worker._backoff.next() for _ in range(12)]
        assert [round(wait / 5) for wait in waits[:3]] == [1, 2, 4]
        assert all(270 <= wait <= 330 for wait in waits[-5:])
        job = station.drop()
        station.await_event(events.QueueHeld)
        receiver.start()
        with station.operator() as control, within(5.0):
            control.pause(False)
            station.ends(job, Status.COMPLETED, 5.0)


def test_end_of_a_hold_is_told_over_a_restart(receiver: Receiver, open_station: OpenStation) -> None:
    """Whoever was told of the hold, and restarted the daemon, hears once that it is over."""
    receiver.stop()
    began = time.time()
    with open_station() as station:
        job = station.drop()
        station.await_event(events.QueueHeld)
    with open_station() as station:
        station.await_event(events.QueueHeld)  # held again, and still the same hold
    receiver.start()
    with open_station() as station:
        station.ends(job, Status.COMPLETED)
        station.ends(station.drop("next.zip", sheets=4), Status.COMPLETED)
        [released] = station.announced(events.QueueReleased)
        assert 0 < released.held_seconds <= time.time() - began
    with open_station() as station:
        station.ends(station.drop("last.zip", sheets=5), Status.COMPLETED)
        assert not station.announced(events.QueueReleased)


@pytest.mark.parametrize("status", [429, 503, 413, 500])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_in_both_forms_stops_all_four_and_costs_nothing(
    receiver: Receiver, open_station: OpenStation, status: int, form: str
) -> None:
    """Whatever the status: no request begins before that time, no attempt is spent, no size is halved."""
    # a date is by the second and of the wall, which the tests' clock does not hurry: 6 s are 0.6 of its wait
    value = "6" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=status, retry_after=value))
    with open_station() as station:
        job = station.drop(size=9 * MIB)
        chunk_size = station.settings.upload.chunk_size
        job = station.ends(job, Status.COMPLETED)
        [pause] = station.announced(events.ServerSlowedDown)
        assert 4 <= pause.wait <= 7
        assert not station.announced(events.ChunkRetried)
        assert not station.announced(events.UploadRestarted)
        assert (job.attempts, job.parts[0].chunk_size) == (1, chunk_size)
    [refused] = [r for r in receiver.requests if r.status == status]
    assert refused.ended is not None
    later = [r.started - refused.ended for r in receiver.requests if r.started > refused.ended + 0.1]
    assert later
    assert min(later) >= pause.wait / 10 - 0.15


@pytest.mark.parametrize("retry_after", ["0", "-3", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_senseless_retry_after_is_no_hammering(
    receiver: Receiver, open_station: OpenStation, retry_after: str
) -> None:
    """A 429 that names no time to come is waited for all the same."""
    receiver.add_fault(Fault(match="upload", action="status", status=429, retry_after=retry_after, times=3))
    with open_station() as station:
        station.ends(station.drop(), Status.COMPLETED)
        assert [pause.wait >= 1 for pause in station.announced(events.ServerSlowedDown)] == [True] * 3
    times = sorted(r.started for r in receiver.requests if r.kind == "upload")
    assert min(second - first for first, second in pairwise(times)) > 0.09


def test_new_token_in_the_file_ends_the_hold_at_once(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """However far the next probe has moved away; a file that is empty for a moment does no harm."""
    token_file = tmp_path / "token"
    token_file.write_text("wrong-token")
    with open_station(server={"token": None, "token_file": token_file}) as station:
        for _ in range(10):
            station.worker._backoff.next()
        job = station.drop()
        assert station.await_event(events.QueueHeld).code == "token_rejected"
        token_file.write_text("")
        until(lambda: station.worker._probe_at > 0, what="the next probe")
        with within(5.0):
            token_file.write_text("right-token")
            station.ends(job, Status.COMPLETED, 5.0)


def test_token_file_is_read_again_before_the_old_one_is_refused(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """A change of the file is enough: no request goes out with the old token first."""
    token_file = tmp_path / "token"
    token_file.write_text("right-token")
    with open_station(server={"token": None, "token_file": token_file}) as station:
        station.ends(station.drop("a.zip"), Status.COMPLETED)
        token_file.write_text("newer-token")
        receiver.rotate_token("newer-token")
        station.ends(station.drop("b.zip"), Status.COMPLETED)
    assert [r.status for r in receiver.requests if r.kind == "upload"] == [202, 202]


def test_token_is_systemds_credential(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no setting names one."""
    (tmp_path / "token").write_text("right-token\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with open_station(server={"token": None}) as station:
        station.ends(station.drop(), Status.COMPLETED)
    assert len(receiver.batches) == 1


def cut_answer(connection: socket.socket) -> None:
    """A status, half a body, and the end."""
    read_headers(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"upload_id": "')


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize("serve", [cut_answer, no_http])
def test_server_that_speaks_nonsense_is_an_outage(
    open_station: OpenStation, serve: Callable[[socket.socket], None]
) -> None:
    """Three tries of the chunk, then a probe that is answered no better: held, and no file failed."""
    peer = Peer(serve)
    with open_station(server={"base_url": f"http://127.0.0.1:{peer.port}"}) as station:
        job = station.drop(size=3 * MIB)
        station.await_event(events.QueueHeld)
        until(lambda: station.job(job).status is Status.PENDING)
        assert (station.job(job).attempts, station.job(job).failures) == (0, 0)
        assert len(station.announced(events.ChunkRetried)) == 2
    peer.close()


def test_dead_kept_connection_costs_no_attempt(receiver: Receiver, open_station: OpenStation) -> None:
    """The server closed a kept connection just as a chunk was put on it: sent again at once, uncounted."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="cut"))
    with open_station(upload={"attempts": 1, "concurrency": 1}) as station:
        station.ends(station.drop(size=4 * MIB), Status.COMPLETED)
        assert not station.announced(events.ChunkRetried)
    assert len(receiver.batches) == 1


def test_receiver_down_for_a_minute_costs_nobody_any_work(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """Down in mid-file: no acknowledged chunk is sent again, nothing lies in failed/, attempts uncounted."""
    receiver.add_fault(Fault(match="chunk", chunk_index=5, action="delay", seconds=60))
    with open_station() as station:
        job = station.drop(size=9 * MIB)
        until(lambda: len(station.announced(events.ChunkAcknowledged)) >= 5, what="five chunks")
        receiver.stop()
        station.await_event(events.QueueHeld)
        acknowledged = {event.chunk for event in station.announced(events.ChunkAcknowledged)}
        until(lambda: station.hold_age() >= 60, 10, "a minute of the daemon's clock")
        before = len(receiver.requests)
        receiver.start()
        receiver.clear_faults()
        job = station.ends(job, Status.COMPLETED, 40)
        assert station.announced(events.QueueReleased)
    again = {r.chunk_index for r in receiver.requests[before:] if r.kind == "chunk"}
    assert not again & acknowledged
    assert (job.attempts, job.failures) == (1, 0)
    assert not (tmp_path / "failed").exists() or not list((tmp_path / "failed").iterdir())
    assert len(receiver.batches) == 1
