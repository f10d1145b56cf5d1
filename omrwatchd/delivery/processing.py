"""The server's OMR queue: is it busy, and start this batch (API.md, The OMR processing queue)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from omrwatchd.delivery.client import RequestLost, Transport, authorised
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Kind, judge_answer, judge_lost
from omrwatchd.delivery.wire import Answer, json_object, server_message
from omrwatchd.errors import Problem
from omrwatchd.settings import Processing


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a batch is not processed yet; ask again later.

    ``problem`` is None while the server is merely busy; else it says what keeps everything back: the server
    is away, rejects the token, or answers what these settings do not expect.
    """

    reason: str
    problem: Problem | None = None


BUSY = Wait("the server's OMR queue is busy")


class ProcessingGate:
    """Both calls are off when their path is empty."""

    def __init__(self, transport: Transport, credentials: Credentials, settings: Processing) -> None:
        self._transport = transport
        self._credentials = credentials
        self._settings = settings

    @property
    def enabled(self) -> bool:
        return bool(self._settings.status_path or self._settings.start_path)

    def ask(self) -> Wait | None:
        """None when the server has time for a batch."""
        settings = self._settings
        if not settings.status_path:
            return None
        answer = self._request("GET", settings.status_path)
        if isinstance(answer, Wait):
            return answer
        if not 200 <= answer.status < 300:
            return _unexpected(answer, "status_path", "")
        busy = is_busy(json_object(answer.body), settings.busy_field)
        if busy is None:
            summary = (
                f"The server's answer to processing.status_path ({settings.status_path}) has no boolean or "
                f"number at {settings.busy_field!r}."
            )
            advice = "Correct processing.busy_field or processing.status_path, and restart omrwatchd."
            return _broken(Problem("misconfigured", summary, advice))
        return BUSY if busy else None

    def start(self, batch_id: str) -> Wait | None:
        """None once the server has taken the batch, or needs no start.

        An answer that is lost is asked for again: never to start is worse than twice, and the server can
        tell by the same Idempotency-Key.
        """
        if not self._settings.start_path:
            return None
        spelt = quote(batch_id, safe="")  # in ASCII, which both a path and a header need
        path = self._settings.start_path.replace("{batch_id}", spelt)
        headers = [("Content-Length", "0"), ("Idempotency-Key", f"omrwatchd-start-{spelt}"[:250])]
        answer = self._request("POST", path, headers)
        if isinstance(answer, Wait):
            return answer
        if 200 <= answer.status < 300:
            return None
        if answer.status == 409:
            return BUSY
        advice = "If the batch needs no start any more, `omrwatchd cancel` takes the file off the queue."
        return _unexpected(answer, "start_path", advice)

    def _request(self, method: str, path: str, headers: list[tuple[str, str]] | None = None) -> Answer | Wait:
        try:
            return authorised(self._transport, self._credentials, method, path, headers or ())
        except RequestLost as lost:
            return _broken(judge_lost(lost.how, lost.detail, None, sent_whole=False).problem)
        except Problem as problem:  # no usable token
            return _broken(problem)


def _unexpected(answer: Answer, setting: str, advice: str) -> Wait:
    """What an answer other than a success means."""
    fault = judge_answer(answer, None, sent_whole=False, now=0.0)
    if fault.kind is Kind.SLOW_DOWN:
        return Wait("the server asks for a pause")
    if fault.kind in (Kind.CREDENTIALS, Kind.OUTAGE):
        return _broken(fault.problem)
    said = f" ({message})" if (message := server_message(answer)) else ""
    summary = f"The server answers HTTP {answer.status} to processing.{setting}{said}."
    if answer.status >= 500 or fault.kind is Kind.CHUNK:
        return _broken(Problem("server_error", summary, fault.problem.advice))
    advice = f"Correct processing.{setting} and restart omrwatchd, or mend the server. {advice}".strip()
    return _broken(Problem("misconfigured", summary, advice))


def _broken(problem: Problem) -> Wait:
    return Wait(problem.summary, problem)


def is_busy(document: dict[str, Any] | None, field: str) -> bool | None:
    """The boolean, or number above 0, at a dotted path; None when there is none."""
    value: Any = document
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return value
    return value > 0 if isinstance(value, int | float) else None
