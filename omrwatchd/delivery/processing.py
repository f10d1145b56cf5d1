"""The server's OMR queue: is it busy, and start this batch (API.md, The OMR processing queue)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from omrwatchd.delivery.client import RequestLost, Transport, authorised
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.wire import json_object
from omrwatchd.errors import Problem
from omrwatchd.settings import Processing

BUSY = "the server's OMR queue is busy"


class ProcessingGate:
    """Asks for one batch; both calls are off when their path is empty."""

    def __init__(self, transport: Transport, credentials: Credentials, settings: Processing) -> None:
        self._transport = transport
        self._credentials = credentials
        self._settings = settings

    @property
    def enabled(self) -> bool:
        return bool(self._settings.status_path or self._settings.start_path)

    def try_start(self, batch_id: str) -> str | None:
        """Start processing when the queue is free; None once the server has taken it (or needs no start).

        Else why not, in words. The delivered file is none the worse for it: ask again later.
        """
        try:
            if self._settings.status_path and (reason := self._ask()) is not None:
                return reason
            return self._start(batch_id) if self._settings.start_path else None
        except RequestLost as lost:
            return f"the server does not answer ({lost.detail or lost.how})"
        except Problem as problem:
            return problem.summary

    def _ask(self) -> str | None:
        answer = authorised(self._transport, self._credentials, "GET", self._settings.status_path)
        if not 200 <= answer.status < 300:
            return f"the server answers HTTP {answer.status} to processing.status_path"
        busy = is_busy(json_object(answer.body), self._settings.busy_field)
        if busy is None:
            return f"the answer to processing.status_path has no usable {self._settings.busy_field!r}"
        return BUSY if busy else None

    def _start(self, batch_id: str) -> str | None:
        path = self._settings.start_path.replace("{batch_id}", quote(batch_id, safe=""))
        answer = authorised(self._transport, self._credentials, "POST", path, [("Content-Length", "0")])
        if 200 <= answer.status < 300:
            return None
        if answer.status == 409:
            return BUSY
        return f"the server answers HTTP {answer.status} to processing.start_path"


def is_busy(document: dict[str, Any] | None, field: str) -> bool | None:
    """The boolean, or number above 0, at a dotted path; None when there is none."""
    value: Any = document
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return value
    return value > 0 if isinstance(value, int | float) else None
