"""The routes: each reads its request, asks the stores, and answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from . import fields
from .answers import Refusal, error
from .control import Control
from .exchange import Exchange
from .house import House
from .multipart import Form

BASE = "/api"

_log = logging.getLogger(__name__)


class Api:
    """The server's interface over a house."""

    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> list[Route]:
        """Every route of the API, below the base path."""
        return [
            Route("/batches/upload", self._kind("upload", self._upload), methods=["POST"]),
            Route("/batches/upload-chunk", self._kind("chunk", self._chunk), methods=["POST"]),
            Route("/batches/by-upload/{upload_id}", self._kind("lookup", self._lookup)),
            Route("/processing/status", self._kind("status", self._status)),
            Route("/processing/{batch_id}/start", self._kind("start", self._start), methods=["POST"]),
            Route("/health", self._kind("probe", self._health)),
        ]

    def _kind(
        self, kind: str, handle: Callable[[Exchange], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await Exchange(self._house, request, kind).run(handle)

        return endpoint

    async def _upload(self, exchange: Exchange) -> Response:
        async def work(form: Form) -> Response:
            sheets, parts = fields.read_upload(form)
            key = exchange.log.idempotency_key
            keys = (key,) if key else ()
            delivery = sheets.delivery(None, parts[0].filename, keys)
            items = [(part.filename, [part.path]) for part in parts]
            batch = await run_sync(partial(self._house.batches.file, delivery, items))
            return JSONResponse({"batch_id": batch.batch_id}, status_code=202)

        return await exchange.read_form(fields.UPLOAD_SHAPE, work)

    async def _chunk(self, exchange: Exchange) -> Response:
        log = exchange.log

        async def work(form: Form) -> Response:
            chunk = fields.read_chunk(form)
            accept = partial(self._house.sessions.accept, chunk, log.started, log.idempotency_key)
            log.upload_id, batch_id = await run_sync(accept)
            answer = {"upload_id": log.upload_id}
            return JSONResponse(answer | {"batch_id": batch_id} if batch_id else answer)

        return await exchange.read_form(fields.CHUNK_SHAPE, work)

    async def _lookup(self, exchange: Exchange) -> Response:
        async def work() -> Response:
            batch = self._house.batches.of_upload(exchange.request.path_params["upload_id"])
            if batch is None:
                raise Refusal(404, "absent")
            return JSONResponse({"batch_id": batch.batch_id})

        return await exchange.without_body(work)

    async def _status(self, exchange: Exchange) -> Response:
        async def work() -> Response:
            waiting = self._house.queue.ask()
            return JSONResponse({"queue": {"busy": waiting > 0, "waiting": waiting}})

        return await exchange.without_body(work)

    async def _start(self, exchange: Exchange) -> Response:
        async def work() -> Response:
            batch_id = exchange.request.path_params["batch_id"]
            if self._house.batches.get(batch_id) is None:
                raise Refusal(404, "there is no such batch")
            if self._house.queue.ask():
                raise Refusal(409, "the processing queue is busy")
            await run_sync(self._house.batches.start, batch_id)
            return JSONResponse({"batch_id": batch_id, "started": True}, status_code=202)

        return await exchange.without_body(work)

    async def _health(self, exchange: Exchange) -> Response:
        async def work() -> Response:
            return JSONResponse({"ok": True})

        return await exchange.without_body(work)


def build(house: House, *, control: bool) -> Starlette:
    """The ASGI application; ``control`` adds the control surface, at the root and below the base path."""
    switches = [Mount("/_control", routes=Control(house).routes())] if control else []
    return Starlette(
        routes=[Mount(BASE, routes=[*switches, *Api(house).routes()]), *switches],
        exception_handlers={HTTPException: _no_route, Exception: _broken},
    )


async def _no_route(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return error(problem.status_code, problem.detail)


async def _broken(request: Request, problem: Exception) -> Response:
    _log.error("the answer to %s failed", request.url.path, exc_info=problem)
    return error(500, "internal error")
