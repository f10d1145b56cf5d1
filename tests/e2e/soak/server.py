"""A strict OMR server of the soak's own, in a process of its own, written from the API's description alone.

    python -m tests.e2e.soak.server FOLDER PORT TOKEN SEED

It shares no code with the product. Each request is a line in FOLDER/requests.jsonl, each breach of the
protocol one in FOLDER/breaches.jsonl, each batch a file in FOLDER/batches. Words on stdin, a JSON object a
line, change how it behaves (`Server.obey`); each is answered by a line when it is in effect.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.soak.exchange import Connection, Exchange, Gone, more

FAULTS_A_FILE = 5
"""Then it is treated well: a file that the server fails again and again may rightly fail."""


class Upload:
    """A file on its way in chunks."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.about = about(fields)
        self.chunks: dict[int, bytes] = {}
        self.acknowledged: dict[int, float] = {}
        """When the answer was on its way."""


def about(fields: dict[str, str]) -> tuple[str | None, ...]:
    """What is the same in every request of a file."""
    return tuple(fields.get(name) for name in ("filename", "total_chunks", "upload_type", "task_id"))


class Server:
    def __init__(self, folder: Path, port: int, token: str, seed: str) -> None:
        self._folder, self._port = folder, port
        self._token, self._known_tokens = token, {token}
        self._random = random.Random(f"{seed}-server")
        self._lock = threading.RLock()
        self._uploads: dict[str, Upload] = {}
        self._made: dict[str, str] = {}
        self._batches = 0
        self._spent: dict[str, int] = {}
        self._odds: dict[str, float] = {}
        self._connections: set[Connection] = set()
        self._sending: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._away = self._busy = False
        self._hang_until = 0.0
        (folder / "batches").mkdir()

    # what it is told

    def obey(self, word: dict[str, Any]) -> None:
        with self._lock:
            self._odds = word.get("odds", self._odds)
            self._busy = word.get("busy", self._busy)
            self._hang_until = time.time() + word["hang"] if "hang" in word else self._hang_until
            self._token = word.get("token", self._token)
            self._known_tokens |= {self._token, word.get("coming_token", self._token)}
            if word.get("forget"):
                self._uploads.clear()
        if "away" in word and word["away"] != self._away:
            self._go() if word["away"] else self.listen()

    def listen(self) -> None:
        self._away = False
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _go(self) -> None:
        self._away = True
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # its own thread closes it
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock)
        with self._lock:
            self._connections.add(connection)
        with contextlib.suppress(Gone):
            while True:
                Exchange(self, connection, connection.head()).run()
        with self._lock:
            self._connections.discard(connection)
        connection.reset() if self._away else sock.close()

    # what its exchanges ask

    def write(self, file: str, line: dict[str, Any]) -> None:
        with self._lock, (self._folder / file).open("a") as log:
            log.write(json.dumps(line) + "\n")

    @property
    def away(self) -> bool:
        return self._away

    def right(self, token: str) -> bool | None:
        """None: it never was one, nor will be."""
        with self._lock:
            return token == self._token if token in self._known_tokens else None

    @contextlib.contextmanager
    def sending(self, connection: Connection) -> Iterator[int]:
        """How many connections send now, those not counted whose client has left."""
        with self._lock:
            self._sending.add(connection)
            count = sum(not each.left for each in self._sending)
        try:
            yield count
        finally:
            with self._lock:
                self._sending.discard(connection)

    def fault(self, name: str) -> str:
        """What befalls this request; "" for nothing."""
        with self._lock:
            if self._spent.get(name, 0) >= FAULTS_A_FILE:
                return ""
            (chosen,) = self._random.choices(
                ["", *self._odds], [max(0.0, 1 - sum(self._odds.values())), *self._odds.values()]
            )
            self._spent[name] = self._spent.get(name, 0) + bool(chosen)
            return chosen

    def draw(self, *choices: Any) -> Any:
        with self._lock:
            return self._random.choice(choices)

    def uniform(self, low: float, high: float) -> float:
        with self._lock:
            return self._random.uniform(low, high)

    @property
    def hangs(self) -> bool:
        return time.time() < self._hang_until

    @property
    def busy(self) -> bool:
        return self._busy

    def batch(self, name: str, content: bytes, **more: Any) -> str:
        with self._lock:
            self._batches += 1
            batch = f"b-{self._batches}"
            (self._folder / "batches" / batch).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            line = {"batch": batch, "name": name, "sha256": digest, "at": time.time()} | more
            self.write("batches.jsonl", line)
            return batch

    def looked_up(self, upload_id: str) -> str | None:
        with self._lock:
            return self._made.get(upload_id)

    def take_chunk(self, fields: dict[str, str], content: bytes) -> tuple[int, dict[str, Any], list[str]]:
        """The answer to a chunk, and what is wrong with it."""
        index, total = int(fields["chunk_index"]), int(fields["total_chunks"])
        with self._lock:
            if index == 0:
                upload_id = f"u-{len(self._uploads)}-{self._random.randrange(10**9)}"
                self._uploads[upload_id] = Upload(fields)
            else:
                upload_id = fields["upload_id"]
            upload = self._uploads.get(upload_id)
            if upload is None:
                wrong = ["a chunk for an upload that is a batch already"] if upload_id in self._made else []
                return 404, {"message": "no such upload"}, wrong
            wrong = [] if upload.about == about(fields) else [f"{upload.about} became {about(fields)}"]
            if index in upload.acknowledged:
                self.write("again.jsonl", {
                    "upload_id": upload_id, "index": index,
                    "acknowledged": upload.acknowledged[index], "again": time.time(),
                })  # fmt: skip
            upload.chunks[index] = content
            answer: dict[str, Any] = {"upload_id": upload_id}
            if index == total - 1:
                if missing := sorted({*range(total - 1)} - set(upload.acknowledged)):
                    wrong.append(f"the final chunk came while {missing} were not acknowledged")
                    return 409, {"message": "there are holes"}, wrong
                whole = b"".join(upload.chunks[number] for number in range(total))
                answer["batch_id"] = self._made[upload_id] = self.batch(
                    fields["filename"], whole, **more(fields)
                )
                del self._uploads[upload_id]
            else:
                upload.acknowledged[index] = time.time()
            return 200, answer, wrong

    def not_acknowledged(self, upload_id: str, index: int) -> None:
        with self._lock:
            if upload_id in self._uploads:
                self._uploads[upload_id].acknowledged.pop(index, None)


def main() -> None:
    folder, port, token, seed = sys.argv[1:]
    server = Server(Path(folder), int(port), token, seed)
    server.listen()
    print("listening", flush=True)
    for line in sys.stdin:
        server.obey(json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    main()
