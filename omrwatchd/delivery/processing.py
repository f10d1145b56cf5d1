"""The server's OMR queue: is it busy, and start this batch (API.md, The OMR processing queue)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from urllib.parse import quote

from omrwatchd.delivery.client import RequestLost, Transport, authorised
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.wire import json_object
from omrwatchd.errors import Problem
from omrwatchd.settings import Processing


class Gate(StrEnum):
    """What the server said."""

    OPEN = "open"
    BUSY = "busy"
    AWAY = "away"
    """No usable answer; the delivered file is none the worse for it: ask again later."""


class ProcessingGate:
    """Asks for one batch; both calls are off when their path is empty."""

    def __init__(self, transport: Transport, credentials: Credentials, settings: Processing) -> None:
        self._transport = transport
        self._credentials = credentials
        self._settings = settings

    @property
    def enabled(self) -> bool:
        return bool(self._settings.status_path or self._settings.start_path)

    def try_start(self, batch_id: str) -> Gate:
        """Start processing when the queue is free; OPEN once the server has taken it (or needs no start)."""
        try:
            if self._settings.status_path and (state := self._ask()) is not Gate.OPEN:
                return state
            return self._start(batch_id) if self._settings.start_path else Gate.OPEN
        except (RequestLost, Problem):
            return Gate.AWAY

    def _ask(self) -> Gate:
        answer = authorised(self._transport, self._credentials, "GET", self._settings.status_path)
        if not 200 <= answer.status < 300:
            return Gate.AWAY
        busy = is_busy(json_object(answer.body), self._settings.busy_field)
        return Gate.AWAY if busy is None else Gate.BUSY if busy else Gate.OPEN

    def _start(self, batch_id: str) -> Gate:
        path = self._settings.start_path.replace("{batch_id}", quote(batch_id, safe=""))
        answer = authorised(self._transport, self._credentials, "POST", path, [("Content-Length", "0")])
        if 200 <= answer.status < 300:
            return Gate.OPEN
        return Gate.BUSY if answer.status == 409 else Gate.AWAY


def is_busy(document: dict[str, Any] | None, field: str) -> bool | None:
    """The boolean, or number above 0, at a dotted path; None when there is none."""
    value: Any = document
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return value
    return value > 0 if isinstance(value, int | float) else None
