"""One connection of the soak's server, and each request on it: read, judged by the rules, answered or not."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import select
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.e2e.soak.server import Server

STATUSES = (500, 502, 503, 504, 429)
LOST_BEHIND_GATEWAY = (502, 504)
HTML = b"<html><body>Bad gateway</body></html>"
CHUNK_FIELDS = {"chunk", "chunk_index", "total_chunks", "filename", "upload_type", "is_final_chunk"}
OPTIONAL = {"task_id", "notes", "profile_id"}


class Gone(Exception):
    """The client has left, or was thrown out."""


class Part(NamedTuple):
    file_name: str | None
    value: bytes


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""

    def read(self, most: int) -> bytes:
        if not self.pending:
            try:
                self.pending = self.sock.recv(most)
            except OSError as error:
                raise Gone from error
            if not self.pending:
                raise Gone
        data, self.pending = self.pending[:most], self.pending[most:]
        return data

    def head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.read(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        self.pending = rest + self.pending
        return head

    @property
    def left(self) -> bool:
        """Whether the client has closed its side, whatever it sent before."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    @property
    def unread(self) -> int:
        return len(self.pending) + struct.unpack("i", fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)))[0]

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Exchange:
    """One request and its answer."""

    def __init__(self, server: Server, connection: Connection, head: bytes) -> None:
        self.server, self.connection = server, connection
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.length = int(self.headers.get("content-length", "0"))
        self.body = bytearray()
        self.log: dict[str, Any] = {"path": self.path, "length": self.length, "began": time.time()}

    def run(self) -> None:
        fate = "gone"
        try:
            if self.method == "POST" and "/batches/" in self.path:
                with self.server.sending(self.connection) as count:
                    if count > 4:
                        self.breach(f"{count} connections send at once")
                    fate = self.upload()
            else:
                fate = self.other()
        except Gone:
            fate = "away" if self.server.away else "gone"
            raise
        finally:
            self.close_the_log(fate)
            if fate == "reset":
                self.connection.reset()
            self.server.write("requests.jsonl", self.log)
        if fate == "reset" or self.log.get("closed"):
            raise Gone

    def close_the_log(self, fate: str) -> None:
        """How it ended, and when; of an answer, how far the body had come by then."""
        if "ended" not in self.log:
            unread = self.connection.unread if self.connection.sock.fileno() >= 0 else 0
            self.log |= {"ended": time.time(), "missing": self.length - len(self.body) - unread}
        self.log["fate"] = fate

    def breach(self, what: str) -> None:
        self.server.write("breaches.jsonl", {"what": what, "at": time.time(), **self.log})

    def answer(self, status: int, document: dict[str, Any] | None, **headers: str) -> str:
        """``None``: a gateway's HTML. An answer before the whole body was read ends the connection."""
        body = HTML if document is None else json.dumps(document).encode()
        kind = "text/html" if document is None else "application/json"
        early = len(self.body) < self.length
        lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += ["Connection: close"] * early
        self.log["closed"] = early
        if self.connection.left:
            raise Gone
        self.close_the_log(str(status))
        try:
            self.connection.sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        except OSError as error:
            raise Gone from error
        if early:  # or a reset would overtake the answer
            with contextlib.suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_WR)
            ends = time.time() + 0.5
            with contextlib.suppress(Gone):
                while time.time() < ends:
                    self.connection.read(65536)
        return str(status)

    def authorised(self) -> bool:
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        right = self.server.right(token) if kind == "Bearer" else None
        if right is None:
            self.breach("not our token")
        return bool(right)

    def other(self) -> str:
        self.hang(self.server.hangs)
        if not self.authorised():
            return self.answer(401, {"message": "which token?"})
        if self.path.endswith("/status"):
            return self.answer(200, {"queue": {"busy": self.server.busy}})
        if self.path.endswith("/start"):
            self.log["starts"] = self.path.split("/")[-2]
            return self.answer(*((409, {"message": "busy"}) if self.server.busy else (202, {})))
        if "/by-upload/" in self.path:
            return self.answer(200, {"batch_id": self.server.looked_up(self.path.rpartition("/")[2])})
        return self.answer(200, {})

    # an upload

    def upload(self) -> str:
        if not self.authorised():
            if self.server.draw(True, False):
                self.read_to(self.length)
            return self.answer(401, {"message": "which token?"})
        self.read_to(min(self.length, 4096))
        self.log |= self.seen()
        fault = self.log["fault"] = self.server.fault(self.log["name"])
        if fault == "reset_before":
            self.read_to(int(self.length * self.server.uniform(0, 0.999)))
            return "reset"
        if fault == "status_before":
            self.read_to(int(self.length * self.server.uniform(0, 0.5)))
            return self.refuse(self.server.draw(*STATUSES))
        self.read_to(self.length)
        self.log["whole"] = True
        if fault == "status_after":
            status = self.server.draw(*STATUSES)
            if status in LOST_BEHIND_GATEWAY and self.server.draw(True, False):
                self.take()
            return self.refuse(status)
        if fault == "reset_after":
            if self.server.draw(True, False):
                self.take()
            return "reset"
        self.hang(fault == "hang" or self.server.hangs)
        status, document, lost = self.take()
        try:
            return self.answer(status, document)
        except Gone:
            lost()
            raise

    def seen(self) -> dict[str, Any]:
        """Which file this is about, as far as its first bytes tell."""
        field = {
            name.decode(): value.decode()
            for name, value in re.findall(rb'form-data; name="(\w+)"\r\n\r\n(.*?)\r\n', self.body)
        }
        found = re.search(rb'name="file"; filename="(.*?)"', self.body)
        return {
            "name": unescaped(found[1].decode()) if found else field.get("filename", "?"),
            "makes_batch": bool(found) or field.get("is_final_chunk") == "true",
            "index": field.get("chunk_index"), "upload_id": field.get("upload_id"),
        }  # fmt: skip

    def hang(self, wanted: bool) -> None:
        ends = time.time() + (self.server.uniform(0.5, 8) if wanted else 0)
        while time.time() < ends and not self.server.away:
            if self.connection.left:
                self.log["left"] = time.time()
                break
            time.sleep(0.05)

    def refuse(self, status: int) -> str:
        if status == 429:
            return self.answer(429, {"message": "slowly"}, Retry_After=str(self.server.draw(1, 2, 3)))
        return self.answer(status, None if status in LOST_BEHIND_GATEWAY else {"message": "out of order"})

    def read_to(self, length: int) -> None:
        while len(self.body) < length:
            self.body += self.connection.read(min(262144, length - len(self.body)))
            time.sleep(0.005 if self.length > 262144 else 0)  # a line that is no loopback

    def take(self) -> tuple[int, dict[str, Any], Any]:
        """The answer, and what is to be done when it does not arrive."""
        try:
            parts = self.parts()
            fields = {name: part.value.decode() for name, part in parts.items() if part.file_name is None}
            wrong = self.check(parts, fields)
        except (AssertionError, ValueError, KeyError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        for what in wrong:
            self.breach(what)
        if wrong:
            return 400, {"message": "; ".join(wrong)}, lambda: None
        if self.path.endswith("/upload"):
            name, content = parts["file"]
            batch = self.log["batch"] = self.server.batch(unescaped(name or ""), content, **more(fields))
            return self.server.draw(200, 202), {"batch_id": batch}, lambda: None
        index = int(fields["chunk_index"])
        status, document, wrong = self.server.take_chunk(fields, parts["chunk"].value)
        self.log |= {name: value for name, value in document.items() if name != "message"}
        for what in wrong:
            self.breach(what)
        return status, document, lambda: self.server.not_acknowledged(document.get("upload_id", ""), index)

    def parts(self) -> dict[str, Part]:
        """The form, which ends exactly where the body does (RFC 7578)."""
        kind, _, boundary = self.headers["content-type"].partition("; boundary=")
        assert kind == "multipart/form-data", kind
        line = b"--" + boundary.encode()
        body = bytes(self.body)
        assert body.startswith(line + b"\r\n"), "the form does not begin with its boundary"
        assert body.endswith(b"\r\n" + line + b"--\r\n"), "the form does not end with its boundary"
        found: dict[str, Part] = {}
        for piece in body[len(line) + 2 : -len(line) - 6].split(b"\r\n" + line + b"\r\n"):
            head, _, value = piece.partition(b"\r\n\r\n")
            named = re.search(r'; name="([^"]*)"(?:; filename="([^"]*)")?', head.decode())
            assert named is not None, f"no name in {head!r}"
            assert named[1] not in found, f"{named[1]} comes twice"
            found[named[1]] = Part(named[2], value)
        return found

    def check(self, parts: dict[str, Part], fields: dict[str, str]) -> list[str]:
        wrong = [f"{name} is empty" for name, value in fields.items() if not value]
        if fields["upload_type"] not in ("zip_with_qr", "zip_no_qr"):
            wrong.append(f"upload_type {fields['upload_type']}")
        if self.path.endswith("/upload"):
            known, needed = {"file", "upload_type", *OPTIONAL}, {"file", "upload_type"}
        else:
            index, total = int(fields["chunk_index"]), int(fields["total_chunks"])
            final = index == total - 1
            needed = CHUNK_FIELDS | ({"upload_id"} if index else set())
            known = needed | (OPTIONAL if final else {"task_id"})
            if not 0 <= index < total or fields["is_final_chunk"] != str(final).lower():
                wrong.append(f"chunk {index} of {total}, final: {fields['is_final_chunk']}")
            if unescaped(parts["chunk"].file_name or "") != f"{fields['filename']}.part{index}":
                wrong.append(f"chunk {index} is named {parts['chunk'].file_name}")
        wrong += [f"{name} is missing" for name in needed - set(parts)]
        return wrong + [f"{name} does not belong here" for name in set(parts) - known]


def unescaped(name: str) -> str:
    """As browsers write a file name in a form (WHATWG HTML)."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def more(fields: dict[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in ("upload_type", *OPTIONAL) if name in fields}
