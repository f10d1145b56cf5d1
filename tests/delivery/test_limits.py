# ruff: noqa: F811 - a fixture of another module is a parameter here
from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as Bell

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.clock import SystemClock
from omrwatchd.delivery.body import BlockSize, Body
from omrwatchd.delivery.client import Client
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.limits import RateLimit, rate_at
from omrwatchd.delivery.wire import CHUNK_PATH, Request
from omrwatchd.model import Status
from omrwatchd.receiver import Receiver
from omrwatchd.settings import MIB, Server, Upload
from omrwatchd.sheets.source import FileSource
from tests.delivery.conftest import OpenStation
from tests.delivery.test_sockets import ANSWER, Peer, certificate, fail, over_tls, read_headers  # noqa: F401

minutes = st.integers(0, 24 * 60 - 1)
tables = st.dictionaries(minutes, st.integers(0, 10**9), min_size=1, max_size=6)


@given(minutes, tables)
def test_latest_entry_of_the_timetable_is_in_force(minute: int, table: dict[int, int]) -> None:
    """Before the first entry of a day the last one of the day before holds; the order does not matter."""
    begun = [time for time in table if time <= minute]
    expected = table[max(begun)] if begun else table[max(table)]
    assert rate_at(minute, list(table.items()), 5) == expected
    assert rate_at(minute, list(reversed(table.items())), 5) == expected


def test_office_hours() -> None:
    """2 MiB/s from eight to six, free at night; max_rate only without a timetable."""
    table = [(8 * 60, 2 * MIB), (18 * 60, 0)]
    assert [rate_at(hour * 60, table, 7) for hour in (0, 7, 8, 17, 18, 23)] == [0, 0, 2 * MIB, 2 * MIB, 0, 0]
    assert rate_at(600, [], 7) == 7


class CountedClock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: Bell, seconds: float | None) -> bool:
        self.time += seconds or 0.0
        return event.is_set()


@given(st.integers(50_000, 50_000_000), st.lists(st.integers(1, MIB), min_size=1, max_size=60))
def test_what_goes_out_never_runs_ahead_of_the_rate(rate: int, wishes: list[int]) -> None:
    """At no moment is more out than the rate times the time that has passed, and one block."""
    clock = CountedClock()
    limit = RateLimit(Upload(max_rate=rate), clock)
    sent, start = 0, clock.time
    for wish in wishes:
        amount = limit.block(wish)
        limit.take(amount, Halt(lambda: None))
        assert sent <= rate * (clock.time - start) * 1.000001 + 1
        sent += amount


def test_four_threads_share_one_rate_within_five_percent() -> None:
    """Ten seconds of the clock of four senders at 2 MiB/s are 20 MiB."""

    class Hurried(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() * 10

        def wait(self, event: Bell, seconds: float | None) -> bool:
            return super().wait(event, None if seconds is None else seconds / 10)

    clock = Hurried()
    limit = RateLimit(Upload(max_rate=2 * MIB), clock)
    halt = Halt(lambda: None)
    out = [0, 0, 0, 0]
    start = clock.monotonic()

    def send(index: int) -> None:
        while True:
            amount = limit.block(MIB)
            limit.take(amount, halt)
            if clock.monotonic() - start >= 10:
                return
            out[index] += amount

    threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert abs(sum(out) / (20 * MIB) - 1) < 0.05
    assert min(out) > 0


def test_upload_keeps_to_the_rate(receiver: Receiver, open_station: OpenStation) -> None:
    """4 MiB at 2 MiB/s take about two seconds of the daemon's clock, whatever the number of threads."""
    with open_station(upload={"max_rate": "2MiB"}) as station:
        station.ends(station.drop(size=4 * MIB), Status.COMPLETED)
    log = [request for request in receiver.requests if request.kind == "chunk"]
    seconds = (max(r.ended or 0.0 for r in log) - min(r.started for r in log)) * 10
    assert seconds >= 1.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "https"])
def test_bytes_on_the_wire_keep_to_the_rate(tmp_path: Path, certificate: Path, kind: str) -> None:
    """Ten seconds of four connections at 2 MiB/s by the timetable: 20 MiB arrive, within five percent."""
    seen: list[tuple[float, int]] = []

    def count(connection: socket.socket) -> None:
        while True:
            headers, _, body = read_headers(connection).partition(b"\r\n\r\n")
            left = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
            seen.append((time.monotonic(), len(body)))
            while left > 0:
                data = connection.recv(min(left, 65536)) or fail()
                left -= len(data)
                seen.append((time.monotonic(), len(data)))
            connection.sendall(ANSWER)

    peer = Peer(over_tls(certificate, count) if kind == "https" else count)
    path = tmp_path / "scan.zip"
    with path.open("wb") as made:
        made.truncate(2 * MIB)
    settings = Upload(max_rate=1, timetable=(("00:00", 2 * MIB),))  # type: ignore[arg-type]
    client = Client(Server(base_url=f"{kind}://127.0.0.1:{peer.port}", ca_file=certificate), settings)
    halt = Halt(client.wake)
    limit = RateLimit(settings, SystemClock())

    def lane(source: FileSource) -> None:
        while len(seen) < 2 or seen[-1][0] - seen[0][0] < 11:
            request = Request(
                CHUNK_PATH, (("Content-Length", str(2 * MIB)),), b"", 0, 2 * MIB, b"", False, "u"
            )
            body = Body(
                request,
                source,
                halt,
                progress=lambda _: None,
                before_last=lambda: None,
                limit=limit,
                block_size=BlockSize(),
                clock=SystemClock(),
            )
            assert client.send("POST", CHUNK_PATH, request.headers, body, token="t").status == 200

    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        source = FileSource(file.fileno(), found.st_size, found.st_mtime_ns)
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(lane, source) for _ in range(4)]:
                each.result()
    client.close()
    peer.close()
    start = min(at for at, _ in seen) + 0.5
    arrived = sum(size for at, size in seen if start <= at < start + 10)
    print(f"\n{kind}: {arrived / (20 * MIB):.4f} of the rate")  # noqa: T201 - the figure is what it is for
    assert abs(arrived / (20 * MIB) - 1) < 0.05
