"""A server without a socket that does as a script says, and remembers what an honest client must not do."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from omrwatchd.delivery.client import RequestLost
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.wire import Answer
from omrwatchd.sheets.source import Piece

DEEDS = (
    "ack", "drop_before", "drop_after", "away", "error", "slow_down", "forget", "expire", "lock_out",
    "crash_before", "crash_after", "cancel", "change",
)  # fmt: skip


_REFUSALS = {
    "error": Answer(503, {"content-type": "text/html"}, b"<h1>Busy</h1>"),
    "slow_down": Answer(429, {"retry-after": "7"}, b""),
}


def bytes_of(piece: Piece) -> bytes:
    """What a connection would send of it."""
    return piece if isinstance(piece, bytes) else os.pread(piece.descriptor, piece.length, piece.offset)


class Crash(BaseException):
    """The daemon's process ends here."""


@dataclass
class Session:
    chunks: dict[int, bytes] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    """Whose acknowledgement reached the client."""


class ScriptedServer:
    """One deed a request, in order; a question waits for none but those that befall it, too.

    When the script is over, it behaves.
    """

    def __init__(self, on_deed: Callable[[str], None]) -> None:
        self.script: deque[str] = deque()
        self.batches: list[tuple[str, str, bytes]] = []
        """(batch_id, file name, content)"""
        self.wrongs: list[str] = []
        self.deeds: Counter[str] = Counter()
        self.token = "token-0"
        self._sessions: dict[str, Session] = {}
        self._made_by: dict[str, str] = {}
        self._made = 0
        self._lock = threading.Lock()
        self._on_deed = on_deed

    def wake(self) -> None:
        """Nothing ever blocks here."""

    def send(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[Piece] | None = None,
        *,
        token: str | None,
    ) -> Answer:
        with self._lock:
            spared = method == "GET" and self.script and self.script[0] not in ("away", "crash_before")
            deed = self.script.popleft() if self.script and not spared else "ack"
            self.deeds[deed] += 1
        if method == "GET" and deed == "ack":
            return self._looked_up(path) if path.startswith("/lookup/") else self._probed(token)
        self._on_deed(deed)
        if deed == "away":
            raise RequestLost(Lost.CONNECT, "refused")
        if deed == "crash_before":
            raise Crash
        if deed == "drop_before":
            next(iter(body or ()))
            raise RequestLost(Lost.RESET, "reset")
        if token != self.token:
            return _json(401, {"message": "token"})
        content = b"".join(map(bytes_of, body or ()))
        return _REFUSALS.get(deed) or self._worked(deed, path, dict(headers), content)

    def _worked(self, deed: str, path: str, headers: dict[str, str], content: bytes) -> Answer:
        with self._lock:
            if deed == "forget":
                self._sessions.clear()
            answer, made_it = self._work(path, headers, content)
            if deed == "drop_after":
                raise RequestLost(Lost.RESET, "reset")
            if deed == "crash_after":
                raise Crash
            if made_it is not None:
                session, index = made_it
                session.answered.add(index)
            return answer

    def _probed(self, token: str | None) -> Answer:
        return _json(200 if token == self.token else 401, {"ok": True})

    def _looked_up(self, path: str) -> Answer:
        batch_id = self._made_by.get(path.removeprefix("/lookup/"))
        if batch_id is None:
            return _json(404, {"message": "no such upload"})
        return _json(200, {"batch_id": batch_id})

    def _work(
        self, path: str, headers: dict[str, str], content: bytes
    ) -> tuple[Answer, tuple[Session, int] | None]:
        fields, data = _form(headers["Content-Type"], content)
        if path == "/batches/upload":
            return _json(202, {"batch_id": self._batch(fields["file name"], data)}), None
        index, total = int(fields["chunk_index"]), int(fields["total_chunks"])
        upload_id = fields.get("upload_id")
        if upload_id is None:
            if index != 0:
                self.wrongs.append(f"chunk {index} came without an upload_id")
            self._made += 1
            upload_id = f"U{self._made}"
            self._sessions[upload_id] = Session()
        session = self._sessions.get(upload_id)
        if session is None:
            return _json(404, {"message": "unknown upload"}), None
        session.chunks[index] = data
        if fields["is_final_chunk"] != "true":
            return _json(200, {"upload_id": upload_id}), (session, index)
        if session.answered != set(range(total - 1)):
            self.wrongs.append(f"the final chunk came when {sorted(session.answered)} were acknowledged")
        whole = b"".join(session.chunks[number] for number in sorted(session.chunks))
        del self._sessions[upload_id]
        self._made_by[upload_id] = self._batch(fields["filename"], whole)
        return _json(200, {"upload_id": upload_id, "batch_id": self._made_by[upload_id]}), None

    def _batch(self, name: str, content: bytes) -> str:
        batch_id = f"B{len(self.batches) + 1}"
        self.batches.append((batch_id, name, content))
        return batch_id


def _json(status: int, document: dict[str, object]) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(document).encode())


def _form(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """The text fields, and the one file's bytes (its name as 'file name')."""
    boundary = content_type.partition("boundary=")[2].encode()
    fields: dict[str, str] = {}
    data = b""
    for piece in body.split(b"--" + boundary)[1:-1]:
        head, _, value = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        value = value.removesuffix(b"\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        assert name is not None
        if (file := re.search(rb'filename="([^"]*)"', head)) is not None:
            fields["file name"], data = file[1].decode(), value
        else:
            fields[name[1].decode()] = value.decode()
    return fields, data
