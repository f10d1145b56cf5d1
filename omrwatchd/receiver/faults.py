"""Misbehaviour on demand: what goes wrong, on which request, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from starlette.responses import HTMLResponse, Response

from .answers import error, proxy_page

Match = Literal["upload", "chunk", "status", "start", "probe", "lookup"]
Action = Literal["status", "cut", "delay", "lose_answer", "forget", "token", "body", "early"]


@dataclass(frozen=True)
class Fault:
    """One kind of misbehaviour.

    Args:
        match: the kind of request it befalls; ``chunk_index`` and ``filename`` narrow it.
        action: ``status`` answers an error when the body is read; ``early`` before it is read; ``cut`` resets
            the connection once ``after_bytes`` of the body came in; ``delay`` answers ``seconds`` late;
            ``lose_answer`` does the work and hangs up; ``forget`` loses the upload session (410);
            ``token`` lets the token expire (401); ``body`` answers 200 with ``body``, whatever that is.
        times: how often; -1 is always.
        status, message, html, retry_after: the error; without a message it is an HTML page of a proxy.
        token: the new token; one nobody knows when not given.
        processed: for ``status`` and ``body``: the work is done all the same, as behind a proxy that gave up.
    """

    match: Match
    action: Action
    times: int = 1
    chunk_index: int | None = None
    filename: str | None = None
    status: int = 503
    message: str | None = None
    html: str | None = None
    retry_after: str | int | None = None
    after_bytes: int = 0
    seconds: float = 0.0
    token: str | None = None
    body: str = ""
    processed: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("match", get_args(Match)), ("action", get_args(Action))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"a fault's {name} is one of {', '.join(allowed)}")
        if self.chunk_index is not None and self.match != "chunk":
            raise ValueError("a fault's chunk_index goes with match = chunk")
        if self.filename is not None and self.match not in ("chunk", "upload"):
            raise ValueError("a fault's filename goes with match = chunk or upload")
        if not 200 <= self.status <= 599:
            raise ValueError("a fault's status is between 200 and 599")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """The fault that JSON describes, with our own field names.

        Raises:
            ValueError: a field is missing, unknown or impossible.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"a fault has no field {unknown[0]!r}")
        if missing := sorted({"match", "action"} - set(data)):
            raise ValueError(f"a fault needs the field {missing[0]!r}")
        try:
            return cls(**data)
        except TypeError as wrong:
            raise ValueError(f"a fault's field has the wrong type: {wrong}") from wrong

    @property
    def narrowed(self) -> bool:
        """Whether the form must be looked into to know if it fits."""
        return self.chunk_index is not None or self.filename is not None

    def fits(self, chunk_index: int | None, filename: str | None) -> bool:
        """Whether a request's form is the one that is meant."""
        return self.chunk_index in (None, chunk_index) and self.filename in (None, filename)

    def answer(self) -> Response:
        """The answer of ``status``, ``early`` and ``body``."""
        if self.action == "body":
            return Response(self.body, media_type="application/json")
        if self.message is not None:
            answer = error(self.status, self.message)
        elif self.html is not None:
            answer = HTMLResponse(self.html, status_code=self.status)
        else:
            answer = proxy_page(self.status)
        if self.retry_after is not None:
            answer.headers["Retry-After"] = str(self.retry_after)
        return answer


class FaultPlan:
    """The faults to come, first added first served. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Put it at the end of the plan."""
        with self._lock:
            self._left.append((fault, fault.times))

    def clear(self) -> None:
        """From now on, behave."""
        with self._lock:
            self._left.clear()

    def take(self, kind: str) -> Fault | None:
        """The next fault for this kind of request, whatever is in it."""
        return self._take(lambda fault: fault.match == kind and not fault.narrowed)

    def take_for(self, kind: str, chunk_index: int | None, filename: str) -> Fault | None:
        """The next fault that asks for just this chunk or file."""
        return self._take(
            lambda fault: fault.match == kind and fault.narrowed and fault.fits(chunk_index, filename)
        )

    def _take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for at, (fault, left) in enumerate(self._left):
                if left != 0 and wanted(fault):
                    self._left[at] = (fault, left - 1 if left > 0 else left)
                    return fault
        return None
