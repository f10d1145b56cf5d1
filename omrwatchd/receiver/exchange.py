"""One request from its first byte to its answer, with whatever is planned to go wrong on the way."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .answers import Hangup, Interrupted, Refusal, disconnected, error, peer_port
from .faults import Fault
from .fields import identity
from .house import House
from .ledger import RequestLog
from .multipart import BLOCK, Form, FormReader, FormShape


class Exchange:
    """A request being answered; the routes' own work is the ``handle`` that ``run`` is given."""

    def __init__(self, house: House, request: Request, kind: str) -> None:
        headers = request.headers
        declared = headers.get("content-length", "")
        self.house = house
        self.request = request
        self.log = RequestLog(
            kind=kind,
            path=request.url.path,
            peer_port=peer_port(request),
            content_length=int(declared) if declared.isdecimal() else None,
            idempotency_key=headers.get("idempotency-key"),
            user_agent=headers.get("user-agent"),
        )
        self._fault: Fault | None = None

    async def run(self, handle: Callable[[Exchange], Awaitable[Response]]) -> Response:
        """The answer, entered in the ledger before it leaves."""
        self.house.ledger.begin(self.log)
        answer = error(500, "internal error")
        try:
            answer = await self._answer(handle)
        except Interrupted as interrupted:
            answer = interrupted.answer
        except ClientDisconnect:
            answer = Hangup(reset=True)
        finally:
            self.house.ledger.end(self.log, None if isinstance(answer, Hangup) else answer.status_code)
        return answer

    async def _answer(self, handle: Callable[[Exchange], Awaitable[Response]]) -> Response:
        try:
            self._admit()
            self._meet(self.house.plan.take(self.log.kind))
            answer = await handle(self)
        except Refusal as refusal:
            answer = refusal.answer()
        return await self._after(answer)

    def _admit(self) -> None:
        """What is decided by the headers alone: the proxy's limit, then the server's token."""
        if (self.log.content_length or 0) > self.house.body_limit:
            raise Refusal(413, "body too large", html=True)
        said = self.request.headers.get("authorization", "").encode()
        if not secrets.compare_digest(said, f"Bearer {self.house.token}".encode()):
            raise Refusal(401, "missing or wrong token")

    async def read_form(self, shape: FormShape, work: Callable[[Form], Awaitable[Response]]) -> Response:
        """Stream the form to disk, then do the work with it; files that it does not take are removed."""
        reader = FormReader(self.request.headers.get("content-type", ""), shape, self.house.incoming)
        try:
            await self._stream(reader)
            form = await run_sync(reader.finish)
            self.log.upload_id = form.fields.get("upload_id")
            await self._before(form)
            return await work(form)
        finally:
            reader.discard()

    async def _stream(self, reader: FormReader) -> None:
        named = None
        async for block in self.request.stream():
            self.log.body_bytes += len(block)
            if self.log.body_bytes > self.house.body_limit:
                raise Refusal(413, "body too large", html=True)
            reader.feed(block)
            if named is None and (named := identity(reader.form)):
                self.log.chunk_index, self.log.filename = named
                if self._fault is None:
                    self._meet(self.house.plan.take_for(self.log.kind, *named))
            self._cut_when_due()
            if reader.pending >= BLOCK:
                await run_sync(reader.flush)

    def _meet(self, fault: Fault | None) -> None:
        """A fault befalls this request; some end it on the spot."""
        self._fault = fault
        if fault is None:
            return
        if fault.action == "early":
            raise Interrupted(fault.answer())
        if fault.action == "token":
            self.house.rotate_token(fault.token)
            raise Refusal(401, "the token has expired")
        self._cut_when_due()

    def _cut_when_due(self) -> None:
        if self._fault and self._fault.action == "cut" and self.log.body_bytes >= self._fault.after_bytes:
            raise Interrupted(Hangup(reset=True))

    async def _before(self, form: Form) -> None:
        """The faults of a request that is read, but never worked on."""
        fault = self._fault
        if fault is None:
            return
        if fault.action == "cut":
            raise Interrupted(Hangup(reset=True))
        if fault.action == "forget":
            if upload_id := form.fields.get("upload_id"):
                await run_sync(partial(self.house.sessions.forget, upload_id))
            raise Refusal(410, "field 'upload_id': this upload has expired")
        if fault.action in ("status", "body") and not fault.processed:
            raise Interrupted(fault.answer())

    async def _after(self, answer: Response) -> Response:
        """The faults of a request that was worked on."""
        fault = self._fault
        if fault is None:
            return answer
        if fault.action == "delay":
            with anyio.move_on_after(fault.seconds):
                await disconnected(self.request.receive)
                raise ClientDisconnect
        if fault.action == "lose_answer":
            return Hangup(reset=False)
        if fault.action in ("status", "body"):
            return fault.answer()
        return answer

    async def without_body(self, work: Callable[[], Awaitable[Response]]) -> Response:
        """Do the work of a request that carries nothing."""
        await self._before(Form())
        return await work()
