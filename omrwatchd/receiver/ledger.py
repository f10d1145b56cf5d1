"""The record of requests: who sent what when, and how many at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace


@dataclass
class RequestLog:
    """One request; times are monotonic seconds. ``status`` is None while it runs, and if it got no answer."""

    kind: str
    path: str
    peer_port: int
    content_length: int | None = None
    idempotency_key: str | None = None
    user_agent: str | None = None
    chunk_index: int | None = None
    upload_id: str | None = None
    filename: str | None = None
    body_bytes: int = 0
    status: int | None = None
    started: float = 0.0
    ended: float | None = None


_UPLOADS = ("upload", "chunk")


class Ledger:
    """All requests in the order they came. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[RequestLog] = []
        self._in_flight = 0
        self._max_concurrent = 0

    def begin(self, entry: RequestLog) -> RequestLog:
        """Enter a request; its handler fills in the rest of it as it learns."""
        with self._lock:
            entry.started = time.monotonic()
            self._entries.append(entry)
            if entry.kind in _UPLOADS:
                self._in_flight += 1
                self._max_concurrent = max(self._max_concurrent, self._in_flight)
        return entry

    def end(self, entry: RequestLog, status: int | None) -> None:
        """Close a request. Called before its answer leaves, so that a client's next one never overlaps it."""
        with self._lock:
            entry.status = status
            entry.ended = time.monotonic()
            if entry.kind in _UPLOADS:
                self._in_flight -= 1

    def requests(self) -> list[RequestLog]:
        """A copy of the record."""
        with self._lock:
            return [replace(entry) for entry in self._entries]

    @property
    def max_concurrent(self) -> int:
        """The most uploads that were ever in flight at once."""
        with self._lock:
            return self._max_concurrent
