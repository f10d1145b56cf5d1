"""The control surface: what a test or the demo sees of the server, and how it makes it misbehave.

It asks for no token and is off unless wanted: it never stands on a server that others can reach.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .answers import error
from .faults import Fault
from .house import House

_Change = Callable[[Any], Awaitable[dict[str, str] | None]]


class Control:
    """Routes over a house's switches."""

    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> list[Route]:
        """Every route, below ``/_control``."""
        return [
            Route("/state", self._state),
            Route("/faults", _checked(self._add_faults), methods=["POST"]),
            Route("/faults", _checked(self._clear_faults), methods=["DELETE"]),
            Route("/busy", _checked(self._busy), methods=["POST"]),
            Route("/token", _checked(self._token), methods=["POST"]),
            Route("/forget", _checked(self._forget), methods=["POST"]),
        ]

    async def _state(self, _request: Request) -> Response:
        house = self._house
        requests = house.ledger.requests()
        state = {
            "batches": [dataclasses.asdict(batch) for batch in house.batches.all()],
            "duplicate_batches": house.batches.duplicates(),
            "request_count": len(requests),
            "requests": [dataclasses.asdict(entry) for entry in requests],
            "max_concurrent": house.ledger.max_concurrent,
            "busy": house.queue.busy,
            "busy_polls": house.queue.busy_polls,
        }
        return Response(json.dumps(state, default=str), media_type="application/json")

    async def _add_faults(self, data: Any) -> None:
        """One fault, or a list of them; all or none."""
        found = [Fault.from_json(_object(one)) for one in (data if isinstance(data, list) else [data])]
        for fault in found:
            self._house.plan.add(fault)

    async def _clear_faults(self, _data: Any) -> None:
        self._house.plan.clear()

    async def _busy(self, data: Any) -> None:
        """``{"busy": true}``, ``{"busy_polls": 3}``, or both."""
        wanted = _object(data)
        busy = _typed(wanted, "busy", bool, self._house.queue.busy)
        polls = _typed(wanted, "busy_polls", int, self._house.queue.busy_polls)
        self._house.queue.busy, self._house.queue.busy_polls = busy, polls

    async def _token(self, data: Any) -> dict[str, str]:
        """``{"token": "…"}``, or nothing for a token that is made up and told."""
        return {"token": self._house.rotate_token(_typed(_object(data or {}), "token", str, None))}

    async def _forget(self, data: Any) -> None:
        """``{"upload_id": "…"}``, or nothing for all."""
        upload_id = _typed(_object(data or {}), "upload_id", str, None)
        await run_sync(partial(self._house.sessions.forget, upload_id))


def _checked(change: _Change) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        try:
            answer = await change(json.loads(body) if body else None)
        except ValueError as wrong:
            return error(400, str(wrong))
        return JSONResponse({"ok": True} | (answer or {}))

    return endpoint


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError("a JSON object is wanted")
    return data


def _typed(data: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name, default)
    if value is not default and type(value) is not kind:
        raise ValueError(f"{name!r} must be of type {kind.__name__}")
    return value
