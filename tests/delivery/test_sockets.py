"""Files on their way into real sockets: plain, over TLS, and over TLS within the TLS of a proxy."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import socket
import ssl
import struct
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from omrwatchd.delivery import stream
from omrwatchd.delivery.body import BlockSize, Body
from omrwatchd.delivery.client import Client, RequestLost
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.handover import Handover
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.network import WatchedNetwork
from omrwatchd.delivery.sockets import Sockets
from omrwatchd.delivery.wire import Request
from omrwatchd.settings import MIB, Server, Upload
from omrwatchd.sheets.part import VirtualPart
from omrwatchd.sheets.source import FileRange, FileSource, Source, SourceChanged
from omrwatchd.sheets.split import Layout, Range
from tests.delivery.listener import Listener
from tests.waiting import HurriedClock, until

CONTENT = os.urandom(3 * MIB + 12_345)
HEAD, TAIL = b"head\r\n", b"\r\ntail"
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"upload_id": "u"}'


class Peer(Listener):
    """Keeps what it was sent behind the headers."""

    def __init__(self, serve: Callable[[socket.socket], None] | None = None) -> None:
        self.received: list[bytes] = []
        self._serve = serve or self._take
        super().__init__()

    def handle(self, connection: socket.socket) -> None:
        self._serve(connection)

    def _take(self, connection: socket.socket) -> None:
        while True:
            headers, _, body = read_headers(connection).partition(b"\r\n\r\n")
            length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(length - len(body)) or fail()
            self.received.append(body)
            connection.sendall(ANSWER)


def fail() -> bytes:
    raise ConnectionError


def read_headers(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or fail()
    return data


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key in one file, trusted by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key -out cert && cat key cert > both",
        shell=True,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "both"


def over_tls(certificate: Path, serve: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrapped(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            serve(secure)

    return wrapped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.zip"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def source(file: Path) -> Iterator[FileSource]:
    descriptor = os.open(file, os.O_RDONLY)
    seen = os.fstat(descriptor)
    yield FileSource(descriptor, seen.st_size, seen.st_mtime_ns)
    os.close(descriptor)


@contextlib.contextmanager
def client_for(address: str, certificate: Path | None = None, **server: str) -> Iterator[Client]:
    client = Client(Server(base_url=address, ca_file=certificate, **server), Upload(stall_seconds=1))
    try:
        yield client
    finally:
        client.close()


def send(client: Client, source: Source, *, final: bool = False, length: int = len(CONTENT)) -> int:
    whole = len(HEAD) + length + len(TAIL)
    headers = (("Content-Length", str(whole)),)
    request = Request("/batches/upload-chunk", headers, HEAD, 0, length, TAIL, final, "u")
    clock = HurriedClock()
    body = Body(
        request,
        source,
        Halt(client.wake),
        progress=lambda _sent: None,
        before_last=lambda: None,
        limit=RateLimit(Upload(), clock),
        block_size=BlockSize(),
        clock=clock,
    )
    return client.send("POST", request.path, headers, body, token="secret").status


@pytest.mark.parametrize("kind", ["http", "https"])
def test_every_byte_arrives_in_its_place(source: FileSource, certificate: Path, kind: str) -> None:
    """A file, and a part made of ranges and new bytes, arrive as they are, on one kept connection."""
    peer = Peer()
    if kind == "https":
        peer._serve = over_tls(certificate, peer._take)
    pieced = CONTENT[5:105] + b"between" + CONTENT[1000 : 1000 + 2 * MIB] + b"end"
    part = VirtualPart(source, Layout((Range(5, 100), b"between", Range(1000, 2 * MIB), b"end"), len(pieced)))
    with client_for(f"{kind}://127.0.0.1:{peer.port}", certificate) as client:
        assert send(client, source) == 200
        assert send(client, part, length=part.size) == 200
        assert send(client, source, final=True) == 200
    whole = HEAD + CONTENT + TAIL
    assert peer.received == [whole, HEAD + pieced + TAIL, whole]
    peer.close()


def test_records_of_tls_share_segments(tmp_path: Path, certificate: Path) -> None:
    """TCP's segments are full, whatever TLS hands over at once; nothing is held back at the end.

    A window that is still small, or that a busy machine's reader leaves small, cuts segments as well: of four
    times on one connection the best counts.
    """
    path = tmp_path / "scan.zip"
    path.write_bytes(bytes(16 * MIB))
    segments = [0]

    def serve(connection: socket.socket) -> None:
        while True:
            left = 16 * MIB
            while left:
                left -= len(connection.recv(65536)) or fail()
            about = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
            segments.append(struct.unpack_from("I", about, 152)[0])  # tcpi_data_segs_in (linux/tcp.h)

    peer = Peer(over_tls(certificate, serve))
    handover = Handover()
    plain = WatchedNetwork(Sockets(), handover).connect_tcp(
        "127.0.0.1", peer.port, 5, socket_options=[(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")]
    )
    stream = plain.start_tls(ssl.create_default_context(cafile=str(certificate)), "127.0.0.1", 5)
    with contextlib.closing(stream), path.open("rb") as file:
        for number in range(1, 5):
            for block in handover.stand_ins([FileRange(file.fileno(), 0, 16 * MIB)]):
                stream.write(block, 5)
            until(lambda so_many=number: len(segments) > so_many)  # type: ignore[misc]
    peer.close()
    segment = 65_483  # the loopback's
    assert min(after - before for before, after in pairwise(segments)) < 1.1 * 16 * MIB / segment


def test_within_the_tls_of_a_proxy(source: FileSource, certificate: Path) -> None:
    """Behind an https proxy the token and the file go through both layers of TLS, and arrive."""
    peer = Peer()
    peer._serve = over_tls(certificate, peer._take)
    outer: list[bytes] = []

    def forward(connection: socket.socket) -> None:
        outer.append(read_headers(connection))
        inner = socket.create_connection(("127.0.0.1", peer.port))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := inner.recv(65536):
                    connection.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        while data := connection.recv(65536):
            outer.append(data)
            inner.sendall(data)

    proxy = Peer(over_tls(certificate, forward))
    address = f"https://127.0.0.1:{peer.port}"
    with client_for(address, certificate, proxy=f"https://127.0.0.1:{proxy.port}") as client:
        assert send(client, source) == 200
    assert peer.received == [HEAD + CONTENT + TAIL]
    assert outer[0].startswith(b"CONNECT")
    assert b"secret" not in b"".join(outer)
    proxy.close()
    peer.close()


@pytest.mark.parametrize("kind", ["http", "https"])
def test_file_that_is_cut_off_meanwhile_is_never_finished(file: Path, certificate: Path, kind: str) -> None:
    """A file that becomes shorter while it is sent raises, and the server gets no whole request."""
    peer = Peer()
    if kind == "https":
        peer._serve = over_tls(certificate, peer._take)

    class Shrinking(FileSource):
        def check(self) -> None:
            """As if the cut came just behind the look."""
            os.truncate(file, MIB + 5)

    descriptor = os.open(file, os.O_RDONLY)
    try:
        with (
            client_for(f"{kind}://127.0.0.1:{peer.port}", certificate) as client,
            pytest.raises(SourceChanged),
        ):
            send(client, Shrinking(descriptor, len(CONTENT), 0))
    finally:
        os.close(descriptor)
    assert peer.received == []
    peer.close()


def test_changed_file_is_noticed_before_the_last_bytes(file: Path, source: FileSource) -> None:
    """Another time of change, with every byte sent already, keeps the request from being whole."""
    peer = Peer()

    class Late(FileSource):
        def pieces(self, offset: int, length: int) -> Iterator[bytes | FileRange]:
            yield from super().pieces(offset, length)
            os.utime(file, (1, 1))

    descriptor = os.open(file, os.O_RDONLY)
    seen = os.fstat(descriptor)
    try:
        with client_for(f"http://127.0.0.1:{peer.port}") as client, pytest.raises(SourceChanged):
            send(client, Late(descriptor, seen.st_size, seen.st_mtime_ns))
    finally:
        os.close(descriptor)
    assert peer.received == []
    peer.close()


@pytest.mark.parametrize("kind", ["http", "https"])
def test_server_that_takes_nothing_is_a_stall(tmp_path: Path, certificate: Path, kind: str) -> None:
    """A peer that reads no byte ends the attempt after upload.stall_seconds, not never."""
    over = threading.Event()

    def deaf(connection: socket.socket) -> None:
        over.wait(60)
        connection.close()

    peer = Peer(over_tls(certificate, deaf) if kind == "https" else deaf)
    large = tmp_path / "large.zip"
    with large.open("wb") as made:
        made.truncate(200 * MIB)
    with (
        large.open("rb") as opened,
        client_for(f"{kind}://127.0.0.1:{peer.port}", certificate) as client,
    ):
        seen = os.fstat(opened.fileno())
        source = FileSource(opened.fileno(), seen.st_size, seen.st_mtime_ns)
        with pytest.raises(RequestLost) as lost:
            send(client, source, length=seen.st_size)
    assert lost.value.how is Lost.WRITE_TIMEOUT
    over.set()
    peer.close()


@pytest.mark.parametrize("kind", ["http", "https"])
@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n"]
)
def test_interim_answer_is_no_answer(file: Path, certificate: Path, kind: str, interim: bytes) -> None:
    """A server that says `100 Continue` unasked waits for the body: it gets all of it."""
    said = threading.Event()

    def serve(connection: socket.socket) -> None:
        headers, _, body = read_headers(connection).partition(b"\r\n\r\n")
        connection.sendall(interim)
        said.set()
        length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(length - len(body)) or fail()
        peer.received.append(body)
        connection.sendall(b"" if interim.endswith(b"\r\n\r\n") else b"\r\n")
        connection.sendall(ANSWER)

    class Patient(FileSource):
        def pieces(self, offset: int, length: int) -> Iterator[bytes | FileRange]:
            """The second block waits until the first one's reaction is there."""
            if offset:
                assert said.wait(10)
            yield from super().pieces(offset, length)

    peer = Peer()
    peer._serve = over_tls(certificate, serve) if kind == "https" else serve
    descriptor = os.open(file, os.O_RDONLY)
    seen = os.fstat(descriptor)
    try:
        address = f"{kind}://127.0.0.1:{peer.port}"
        with client_for(address, certificate, read_timeout="2") as client:
            assert send(client, Patient(descriptor, seen.st_size, seen.st_mtime_ns)) == 200
    finally:
        os.close(descriptor)
    assert peer.received == [HEAD + CONTENT + TAIL]
    peer.close()


@pytest.mark.parametrize("whole", [b"ab", b""])
def test_answer_that_comes_before_the_end_is_told_leaves_the_connection_good(
    monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    """All bytes are out, and only then the end of the body is told: the next request goes out on it as well.

    What has no body ends with a piece of no bytes.
    """
    monkeypatch.setattr(stream, "_LOOK_SECONDS", 0.0)
    answered = threading.Event()
    peer = Peer()

    def serve(connection: socket.socket) -> None:
        for _ in range(2):
            body = read_headers(connection).partition(b"\r\n\r\n")[2]
            while len(body) < len(whole):
                body += connection.recv(2) or fail()
            peer.received.append(body)
            connection.sendall(ANSWER)
            answered.set()

    def body() -> Iterator[bytes]:
        if whole:
            yield whole
        assert answered.wait(10)
        answered.clear()
        yield b""

    peer._serve = serve
    with client_for(f"http://127.0.0.1:{peer.port}", read_timeout="2") as client:
        for _ in range(2):
            headers = [("Content-Length", str(len(whole)))]
            assert client.send("POST", "", headers, body(), token=None).status == 200
    assert peer.received == [whole, whole]
    assert len(peer.connections) == 1
    peer.close()


def answered_with(packed: bytes, coding: str) -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(packed)}\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        read_headers(connection)
        connection.sendall(head.encode() + packed)

    return serve


@pytest.mark.parametrize(
    ("packed", "coding"),
    [(gzip.compress(b'{"batch_id": "b"}'), "gzip"), (zlib.compress(b'{"batch_id": "b"}'), "Deflate")],
    ids=["gzip", "Deflate"],  # gzip writes the time into its head: two processes would name two tests
)
def test_compressed_answer_is_read(packed: bytes, coding: str) -> None:
    """A proxy that compresses unasked hides no batch."""
    peer = Peer(answered_with(packed, coding))
    with client_for(f"http://127.0.0.1:{peer.port}") as client:
        assert client.send("GET", "", token=None).body == b'{"batch_id": "b"}'
    peer.close()


def test_broken_compression_is_a_broken_answer() -> None:
    """It is lost like any that is no HTTP."""
    peer = Peer(answered_with(b"no gzip", "gzip"))
    with client_for(f"http://127.0.0.1:{peer.port}") as client, pytest.raises(RequestLost) as lost:
        client.send("GET", "", token=None)
    assert lost.value.how is Lost.PROTOCOL
    peer.close()


@pytest.mark.parametrize("times", [1, 2])
def test_answer_that_unpacks_to_far_more_takes_no_memory(times: int) -> None:
    """Of 64 MiB in a few bytes no more is unpacked than is read of any answer."""
    packed = bytes(64 * MIB)
    for _ in range(times):
        packed = gzip.compress(packed)
    peer = Peer(answered_with(packed, ", ".join(["gzip"] * times)))
    with client_for(f"http://127.0.0.1:{peer.port}") as client:
        tracemalloc.start()
        try:
            assert client.send("GET", "", token=None).status == 200
            assert tracemalloc.get_traced_memory()[1] < 4 * MIB
        finally:
            tracemalloc.stop()
    peer.close()


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n"),
    ],
    ids=["interim", "headers", "body", "trailers"],
)
def test_answer_in_drops_ends(source: FileSource, first: bytes, drop: bytes) -> None:
    """Each byte comes in time, and the whole never: that counts as no answer."""
    over = threading.Event()

    def dripping(connection: socket.socket) -> None:
        read_headers(connection)
        connection.sendall(first)
        while not over.wait(0.05):
            connection.sendall(drop)

    peer = Peer(dripping)
    watchdog = threading.Timer(10, over.set)
    watchdog.start()
    with (
        client_for(f"http://127.0.0.1:{peer.port}", read_timeout="0.1") as client,
        pytest.raises(RequestLost) as lost,
    ):
        client.send("GET", "", token=None)
    assert lost.value.how is Lost.READ_TIMEOUT
    watchdog.cancel()
    over.set()
    peer.close()


def test_unreadable_file_is_the_files_fault_not_the_connections(tmp_path: Path) -> None:
    """Where the kernel can't read, the error is an OSError of the file: no retry, no outage."""
    peer = Peer()
    folder = os.open(tmp_path, os.O_RDONLY)  # opens, and can't be read: EISDIR, as a broken disk gives EIO

    class Unchecked(FileSource):
        def check(self) -> None:
            pass

    try:
        with client_for(f"http://127.0.0.1:{peer.port}") as client, pytest.raises(IsADirectoryError):
            send(client, Unchecked(folder, MIB, 0), length=MIB)
    finally:
        os.close(folder)
    peer.close()


def test_closed_connection_is_the_connections_fault(source: FileSource) -> None:
    """A peer that hangs up in mid-body is a lost connection, whoever was reading the file."""
    ended = threading.Event()

    def rude(connection: socket.socket) -> None:
        read_headers(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        ended.set()

    peer = Peer(rude)
    with client_for(f"http://127.0.0.1:{peer.port}") as client, pytest.raises(RequestLost) as lost:
        send(client, source)
    assert lost.value.how is Lost.RESET
    until(ended.is_set)
    peer.close()


@pytest.mark.parametrize("kind", ["http", "https"])
def test_what_the_last_look_has_found_good_is_what_arrives(file: Path, certificate: Path, kind: str) -> None:
    """In the request that makes the batch: what is written to the file behind that look goes nowhere."""
    overwritten = threading.Event()

    def take_late(connection: socket.socket) -> None:
        overwritten.wait(10)
        peer._take(connection)

    peer = Peer(take_late if kind == "http" else over_tls(certificate, take_late))

    class Overwritten(FileSource):
        def check(self) -> None:
            super().check()
            self.looks = getattr(self, "looks", 0) + 1
            if self.looks == 2:  # the first is before the one block
                with file.open("r+b") as written:
                    written.write(bytes(length))
                overwritten.set()

    length = 100_000  # less than the sockets between us hold
    descriptor = os.open(file, os.O_RDONLY)
    seen = os.fstat(descriptor)
    try:
        with client_for(f"{kind}://127.0.0.1:{peer.port}", certificate) as client:
            source = Overwritten(descriptor, seen.st_size, seen.st_mtime_ns)
            assert send(client, source, final=True, length=length) == 200
    finally:
        os.close(descriptor)
    assert peer.received == [HEAD + CONTENT[:length] + TAIL]
    peer.close()


def test_stand_in_that_nobody_redeems_ends_the_body(source: FileSource) -> None:
    """Should the HTTP library ever swallow or copy a stand-in, no body of zeros is completed."""
    handover = Handover()
    stand_ins = handover.stand_ins(source.pieces(0, 1000))
    assert next(stand_ins) == bytes(1000)
    with pytest.raises(RuntimeError, match="was not sent"):
        next(stand_ins)
    handover.clear()
    assert handover.take(bytes(1000)) is None


def test_proxy_of_the_environment_as_curl_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheme it is an HTTP proxy; a password that is not ASCII is shown to it as UTF-8."""
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(read_headers(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    peer = Peer(answer)
    monkeypatch.setenv("http_proxy", f"me:p%C3%A4ss@127.0.0.1:{peer.port}")
    with client_for("http://omr.invalid/api") as client:
        assert client.send("GET", "", token=None).status == 204
    peer.close()
    assert seen[0].startswith(b"GET http://omr.invalid/api HTTP/1.1")
    assert b"Proxy-Authorization: Basic " + base64.b64encode("me:p\u00e4ss".encode()) in seen[0]
