"""A receiver on a real socket, and a client that says exactly what a test wants said."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from omrwatchd.receiver import Receiver

BOUNDARY = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"


class Client:
    """Speaks the API with nothing of its own: a form is a list of parts in the order they are sent."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.http = httpx.Client(base_url=receiver.base_url, timeout=20, trust_env=False)
        self.headers = {"Authorization": f"Bearer {receiver.token}"}

    def form(self, parts: list[tuple[str, str | None, bytes]]) -> bytes:
        """The body of (field, file name or None, bytes); the file name goes on the wire as given."""
        body = b""
        for field, filename, data in parts:
            body += b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + field.encode() + b'"'
            if filename is not None:
                body += b'; filename="' + filename.encode() + b'"\r\nContent-Type: application/octet-stream'
            body += b"\r\n\r\n" + data + b"\r\n"
        return body + b"--" + BOUNDARY + b"--\r\n"

    def post(self, path: str, parts: list[tuple[str, str | None, bytes]], **headers: str) -> httpx.Response:
        """POST a form."""
        return self.post_raw(path, self.form(parts), **headers)

    def post_raw(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST any body as a form."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
        return self.http.post(path, content=body, headers=self.headers | kind | headers)

    def get(self, path: str) -> httpx.Response:
        """GET with the token."""
        return self.http.get(path, headers=self.headers)

    def upload(self, data: bytes = b"PK", name: str = "a.zip", **fields: str | None) -> httpx.Response:
        """One direct upload; a field given as None is left out."""
        values = {"upload_type": "zip_with_qr"} | fields
        parts: list[tuple[str, str | None, bytes]] = [
            (field, None, value.encode()) for field, value in values.items() if value is not None
        ]
        return self.post("/batches/upload", [*parts, ("file", name, data)])

    def chunk_parts(
        self, index: int, total: int, data: bytes, upload_id: str | None, **changes: str | None
    ) -> list[tuple[str, str | None, bytes]]:
        """The parts of a correct chunk, with changes; a field changed to None is left out."""
        values: dict[str, str | None] = {
            "chunk_index": str(index),
            "total_chunks": str(total),
            "filename": "scan.zip",
            "upload_type": "zip_with_qr",
            "is_final_chunk": "true" if index == total - 1 else "false",
            "upload_id": upload_id,
        }
        part_name = changes.pop("part_name", f"{changes.get('filename', 'scan.zip')}.part{index}")
        values |= changes
        parts: list[tuple[str, str | None, bytes]] = [
            (field, None, value.encode()) for field, value in values.items() if value is not None
        ]
        return [*parts, ("chunk", part_name, data)]

    def chunk(
        self, index: int, total: int, data: bytes = b"x", upload_id: str | None = None, **changes: str | None
    ) -> httpx.Response:
        """Send one chunk."""
        return self.post("/batches/upload-chunk", self.chunk_parts(index, total, data, upload_id, **changes))

    def begin(self, total: int, data: bytes = b"x", **changes: str | None) -> str:
        """Send chunk 0; the upload id."""
        answer = self.chunk(0, total, data, **changes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["upload_id"])

    def raw(self, head: str, body: bytes = b"") -> socket.socket:
        """A socket on which a request line, headers with the token, and some body were sent."""
        host, port = self.http.base_url.host, self.http.base_url.port
        connection = socket.create_connection((host, port), timeout=20)
        head = f"{head}\r\nHost: {host}\r\nAuthorization: {self.headers['Authorization']}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        """Return as soon as the condition holds; give up after 10 seconds."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.002)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Starts receivers, all with the same folder, and stops them at the end."""
    made: list[Client] = []

    def start(**options: Any) -> Client:
        receiver = Receiver(tmp_path / "server", **options)
        receiver.start()
        made.append(Client(receiver))
        return made[-1]

    yield start
    for client in made:
        client.http.close()
        client.receiver.stop()


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    """A client of a fresh receiver."""
    return make()
