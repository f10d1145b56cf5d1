"""Which connection a request takes, on real ones."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpcore
import httpx
import pytest

from omrwatchd.delivery import connections, room
from omrwatchd.delivery.client import Client, RequestLost
from omrwatchd.delivery.connections import Connections
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.network import WatchedNetwork
from omrwatchd.delivery.sockets import Sockets
from omrwatchd.settings import Server, Upload
from tests.delivery.listener import Listener
from tests.waiting import until

SO_MAX_PACING_RATE = 47
NO_LIMIT = 2**64 - 1
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Host(Listener):
    """Answers when it may, and knows the ports of the connections by which it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.hangs_up = False
        super().__init__()

    def handle(self, connection: socket.socket) -> None:
        _, port = connection.getpeername()
        while connection.recv(65536):
            self.asked.append(port)
            self.may_answer.wait()
            if self.hangs_up:
                return
            connection.sendall(ANSWER)

    def hang_up(self, port: int) -> None:
        next(each for each in self.connections if each.getpeername()[1] == port).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.may_answer.set()
        super().close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture
def client(host: Host) -> Iterator[Client]:
    """With three connections at most: two more than chunks go side by side."""
    server = Server(base_url=f"http://127.0.0.1:{host.port}", connect_timeout=0.5)
    client = Client(server, Upload(concurrency=1))
    yield client
    client.close()


def ask(client: Client) -> int:
    return client.send("GET", "/", token="secret").status


def open_side_by_side(host: Host, client: Client, count: int) -> list[int]:
    """As many connections, idle again; their ports at our end."""
    host.may_answer.clear()
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(ask, client) for _ in range(count)]
        until(lambda: len(host.asked) == count)
        host.may_answer.set()
        assert [answer.result() for answer in answers] == [200] * count
    ports, host.asked = host.asked, []
    assert len(set(ports)) == count
    return ports


def our_end(port: int, host: Host) -> socket.socket:
    """A handle to this process's socket that has this port."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as unwanted:
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                found = unwanted.enter_context(socket.socket(fileno=os.dup(int(name))))
                if found.getsockname()[1] == port and found.getpeername()[1] == host.port:
                    unwanted.pop_all()
                    return found
    raise LookupError(f"no socket here has port {port}")


def slow_down(port: int, host: Host, rate: int) -> None:
    """Have TCP send no faster on this connection than so many bytes a second (socket(7))."""
    with our_end(port, host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)


def test_a_request_takes_the_connection_on_which_tcp_sends_fastest(host: Host, client: Client) -> None:
    one, other, third = open_side_by_side(host, client, 3)
    slow_down(third, host, 1000)
    slow_down(one, host, 4000)
    slow_down(other, host, 5000)
    ask(client)
    slow_down(other, host, 3000)
    ask(client)
    slow_down(one, host, 2000)
    ask(client)
    assert host.asked == [other, one, other]


def test_a_living_connection_is_taken_rather_than_one_that_the_server_has_ended(
    host: Host, client: Client
) -> None:
    """However fast it was: no new handshake; and our end of the other is closed as well."""
    lives, ended = open_side_by_side(host, client, 2)
    slow_down(lives, host, 1000)
    host.hang_up(ended)
    with our_end(ended, host) as sock:
        assert select.select([sock], [], [], 10)[0]
    ask(client)
    assert host.asked == [lives]
    assert len(host.connections) == 2
    with pytest.raises(LookupError):
        our_end(ended, host)


def test_a_connection_that_was_idle_for_long_is_a_new_one(
    host: Host, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers and the boxes between end such connections without a word."""
    monkeypatch.setattr(connections, "KEEPALIVE_SECONDS", -1.0)
    (old,) = open_side_by_side(host, client, 1)
    ask(client)
    assert old not in host.asked
    assert len(host.connections) == 2
    with pytest.raises(LookupError):
        our_end(old, host)


def test_a_connection_is_free_again_after_each_request_that_failed(host: Host, client: Client) -> None:
    host.hangs_up = True
    for _ in range(7):
        with pytest.raises(RequestLost) as lost:
            ask(client)
        assert lost.value.how is Lost.RESET
    host.hangs_up = False
    assert ask(client) == 200


def test_a_request_that_finds_no_connection_free_waits_for_one_and_then_says_so(
    host: Host, client: Client
) -> None:
    host.may_answer.clear()
    with ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(ask, client) for _ in range(3)]
        until(lambda: len(host.asked) == 3)
        with pytest.raises(RequestLost) as lost:
            ask(client)
        assert (lost.value.how, lost.value.detail) == (Lost.CONNECT, "timed out")
        waiting = pool.submit(ask, client)
        host.may_answer.set()
        assert [answer.result() for answer in [*under_way, waiting]] == [200] * 4
    assert len(host.connections) == 3


class Controlled(WatchedNetwork):
    """Connections of one congestion control, whatever this machine's is."""

    def __init__(self, control: bytes) -> None:
        super().__init__(Sockets(), Handover())
        self._control = control

    def connect_tcp(
        self, host: str, port: int, *_ignored: object, **_named: object
    ) -> httpcore.NetworkStream:
        options = [(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._control)]
        return super().connect_tcp(host, port, 5, socket_options=options)


@contextlib.contextmanager
def controlled(host: Host, control: bytes) -> Iterator[httpx.Client]:
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    if control.decode() not in known:
        pytest.skip(f"this kernel has no {control.decode()}")
    server = Server(base_url=f"http://127.0.0.1:{host.port}")
    with httpx.Client(transport=Connections(server, 4, lambda: Controlled(control))) as client:
        yield client


def limit_of(port: int, host: Host) -> int:
    """Bytes a second that TCP is allowed at most on this connection."""
    with our_end(port, host) as sock:
        return int(struct.unpack("@L", sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8))[0])


def limits_side_by_side(host: Host, client: httpx.Client, count: int) -> list[int]:
    """With one request under way, two …: the limit of the connection that was asked first."""
    host.asked.clear()
    host.may_answer.clear()
    limits, answers = [], []
    with ThreadPoolExecutor(count) as pool:
        for so_many in range(1, count + 1):
            answers.append(pool.submit(client.get, f"http://127.0.0.1:{host.port}"))
            until(lambda so_many=so_many: len(host.asked) == so_many)  # type: ignore[misc]
            limits.append(limit_of(host.asked[0], host))
        host.may_answer.set()
        assert [answer.result().status_code for answer in answers] == [200] * count
    return limits


def limits_beside_new_ones(host: Host, client: httpx.Client) -> tuple[int, list[int]]:
    """The port of a connection that knows the line, and its limits: alone, beside a new one, beside two."""
    client.get(f"http://127.0.0.1:{host.port}")
    known = host.asked[0]
    limits = limits_side_by_side(host, client, 3)
    assert host.asked[0] == known
    assert len(host.connections) == 3
    return known, limits


def test_a_connection_made_anew_after_a_long_rest_gets_its_share_as_well(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next file after an hour: what is left of the connections before counts for nothing."""
    monkeypatch.setattr(room, "SHORTEST_ROUND_TRIP", 0.0)
    monkeypatch.setattr(room, "ROUND_TRIPS", 10**9)
    with controlled(host, b"reno") as client:
        limits_side_by_side(host, client, 2)
        with monkeypatch.context() as rest:
            rest.setattr(connections, "KEEPALIVE_SECONDS", -1.0)
            client.get(f"http://127.0.0.1:{host.port}")
        assert limits_side_by_side(host, client, 2)[1] < NO_LIMIT


def test_who_knows_the_line_leaves_new_connections_their_share(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHORTEST_ROUND_TRIP", 0.0)
    monkeypatch.setattr(room, "ROUND_TRIPS", 10**9)
    with controlled(host, b"reno") as client:
        _, (alone, beside_one, beside_two) = limits_beside_new_ones(host, client)
    assert alone == NO_LIMIT
    assert 0 < beside_one < 100e9
    assert abs(3 * beside_two - 2 * beside_one) <= 5


def test_room_is_left_for_a_while_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anything is sent or not."""
    monkeypatch.setattr(room, "SHORTEST_ROUND_TRIP", 0.0)
    monkeypatch.setattr(room, "ROUND_TRIPS", 50_000)  # about a second here
    with controlled(host, b"reno") as client:
        known, (_, beside_one, _) = limits_beside_new_ones(host, client)
        assert beside_one < NO_LIMIT
        until(lambda: limit_of(known, host) == NO_LIMIT, seconds=50)


def test_nearby_no_room_is_left(host: Host) -> None:
    """A new connection finds its share in no time there."""
    with controlled(host, b"reno") as client:
        assert set(limits_beside_new_ones(host, client)[1]) == {NO_LIMIT}


def test_bbr_needs_no_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds its share by itself, and what is limited would forget its own."""
    monkeypatch.setattr(room, "SHORTEST_ROUND_TRIP", 0.0)
    with controlled(host, b"bbr") as client:
        assert set(limits_beside_new_ones(host, client)[1]) == {NO_LIMIT}
