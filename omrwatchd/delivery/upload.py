"""One part to the server: its first chunk, the middle ones side by side, the final one last."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.delivery.body import BlockSize, Body
from omrwatchd.delivery.chunks import Chunk, halved, plan
from omrwatchd.delivery.client import Transport
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import (
    Fault,
    Kind,
    forgotten_after_the_final_chunk,
    unknown_after_a_crash,
)
from omrwatchd.delivery.halt import Halt, Why
from omrwatchd.delivery.lanes import Lanes
from omrwatchd.delivery.last_answer import LastAnswer
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.probe import Probe
from omrwatchd.delivery.retry import Attempts, Failed, Pause, Sender
from omrwatchd.delivery.wire import (
    Ack,
    Request,
    picture_heads,
    prepare_chunk,
    prepare_direct,
    prepare_pictures,
)
from omrwatchd.errors import Problem
from omrwatchd.events import Announce
from omrwatchd.model import Job, Part, display_name
from omrwatchd.queue.ledger import Ledger
from omrwatchd.settings import Upload
from omrwatchd.sheets.pictures import FramedPictures, PictureSet
from omrwatchd.sheets.source import Source

T = TypeVar("T")

PICTURES_TOO_LARGE = Problem(
    "too_large",
    "The server takes no request of this size (HTTP 413), and pictures can't go in chunks.",
    "Lower upload.direct_limit to what the server takes, then drop the folder again.",
)
SESSIONS_FORGOTTEN_AT_MOST = 2
ABSENT_AT_MOST = 2
"""Times that a final request is lost and surely made no batch, before the attempt has failed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the server answered to a chunk, and after how long."""

    ack: Ack
    seconds: float


@dataclass(frozen=True, slots=True)
class Road:
    """What every upload needs."""

    transport: Transport
    credentials: Credentials
    ledger: Ledger
    settings: Upload
    clock: Clock
    announce: Announce
    pool: ThreadPoolExecutor
    pause: Pause
    limit: RateLimit
    last_answer: LastAnswer
    probe: Probe

    def attended(self, ask: Callable[[], T], heed: Callable[[], None]) -> T:
        """Ask the server on a chunk thread; ``heed`` may raise meanwhile, which ends the question at once."""
        return Lanes(self.pool, self.transport.wake).run({0: ask}, heed)[0]


class PartUpload:
    """The upload of one part, on the worker thread, which waits for the chunk threads and ticks."""

    def __init__(self, road: Road, job: Job, part: Part, source: Source | PictureSet, halt: Halt) -> None:
        self._road = road
        self._job = job
        self.part = part
        self._boundary = secrets.token_hex(16)  # framing of ours that no file can hold on purpose
        self._is_pictures = isinstance(source, PictureSet)
        self._source = self._framed(source) if isinstance(source, PictureSet) else source
        self._halt = halt
        self._sender = Sender(road.transport, road.credentials, road.probe, road.clock, road.pause, halt)
        self._lanes = Lanes(road.pool, lambda: halt.give(Why.STOP))
        self._sent: dict[int, int] = {}
        self._block_size = BlockSize()
        self._last_body: Body | None = None
        self._awaits_answer = False
        self._absent = 0
        self._resending = False
        self._final_was_taken = False

    def _framed(self, pictures: PictureSet) -> Source:
        names = [display_name(picture.name) for picture in pictures.entries]
        return FramedPictures(pictures, picture_heads(names, self._boundary))

    @property
    def bytes_sent(self) -> int:
        """Bytes of the part that the server has, or the kernel has taken for it."""
        return sum(tuple(self._sent.values()))

    @property
    def pause_left(self) -> float:
        """For so many seconds the server has asked to be left alone; 0: it has not."""
        return self._road.pause.left

    @property
    def awaits_last_answer(self) -> bool:
        """The request that makes the batch is out: ending it now would leave its outcome unknown."""
        return self._awaits_answer

    @property
    def _was_sent_whole(self) -> bool:
        return self._last_body is not None and self._last_body.last_bytes_began

    def run(self, tick: Callable[[], None]) -> str:
        """Deliver the part; its batch_id.

        Raises:
            Failed: with the fault, its attempts used up.
            Halted: ended from outside; what was acknowledged is kept.
            SourceChanged: the file is not what it was; the batch was not finished.
        """
        unknown = unknown_after_a_crash() if self.part.final_sent_at is not None else None
        while True:
            try:
                if unknown is not None and (batch_id := self._settle_unknown(unknown, tick)) is not None:
                    return batch_id
                request = self._direct_request()
                return self._direct(request, tick) if request is not None else self._chunked(tick)
            except Failed as failure:
                self._last_body, self._awaits_answer = None, False
                fault = failure.fault
                if fault.kind is Kind.SESSION and self._final_was_taken:
                    fault = forgotten_after_the_final_chunk(fault)
                if fault.kind is Kind.UNKNOWN and fault is not unknown:
                    unknown = fault
                    continue
                unknown = None
                self._prepare_again(failure)

    # the lost last answer

    def _settle_unknown(self, unknown: Fault, tick: Callable[[], None]) -> str | None:
        """The batch that the lost answer was about; None when there surely is none.

        Raises:
            Failed: with ``unknown`` itself where a person has to look, or by a fault of the way.
        """
        upload_id = self.part.upload_id
        if upload_id is None or self.part.chunk_size is None:
            raise Failed(unknown)  # a direct upload: nothing to ask by, and never sent again by itself
        if self._road.last_answer.can_look:
            return self._look_up(upload_id, unknown, tick)
        if self._road.settings.on_unknown == "resend":
            return self._resend(unknown, tick)
        raise Failed(unknown)

    def _look_up(self, upload_id: str, unknown: Fault, tick: Callable[[], None]) -> str | None:
        answers = self._lanes.run({0: lambda: self._road.last_answer.find(upload_id, self._halt)}, tick)
        if answers[0] is not None:
            return answers[0]
        self._withdraw_intent()
        self._final_was_taken = False
        self._absent += 1
        if self._absent >= ABSENT_AT_MOST:
            raise Failed(replace(unknown, kind=Kind.CHUNK))
        return None

    def _resend(self, unknown: Fault, tick: Callable[[], None]) -> str:
        """The final chunk once more, of the same upload; only a batch_id ends the uncertainty."""
        final = self._plan()[-1]
        self._resending = True
        try:
            return _batch_of(self._send_all([final], tick)[final.index])
        except Failed as failure:
            if failure.fault.kind in (Kind.OUTAGE, Kind.CREDENTIALS, Kind.MISCONFIGURED):
                raise
            # nothing went out, or what did was surely no batch: the server is not there
            if self._last_body is None or (failure.fault.kind is Kind.CHUNK and not self._is_there(tick)):
                raise Failed(replace(failure.fault, kind=Kind.OUTAGE)) from failure
            raise Failed(unknown) from failure
        finally:
            self._resending = False

    def _is_there(self, tick: Callable[[], None]) -> bool:
        return self._lanes.run({0: lambda: self._road.probe.answers(Kind.OUTAGE)}, tick)[0]

    def _prepare_again(self, failure: Failed) -> None:
        """Begin a new session where that mends the fault; else the fault stands."""
        fault = failure.fault
        if fault.kind is Kind.SESSION and self.part.sessions < SESSIONS_FORGOTTEN_AT_MOST:
            size = self.part.chunk_size or self._road.settings.chunk_size
            self._begin_session(size, forgotten=True)
        elif fault.kind is Kind.SIZE and (smaller := self._smaller_chunk()) is not None:
            self._begin_session(smaller)
        elif fault.kind is Kind.SIZE and self._is_pictures:
            raise Failed(Fault(Kind.FILE, PICTURES_TOO_LARGE)) from failure
        elif fault.kind in (Kind.SESSION, Kind.SIZE):
            raise Failed(replace(fault, kind=Kind.FILE)) from failure
        else:
            raise failure
        self._road.announce(
            events.UploadRestarted(self._job.id, self.part.index, fault.problem.summary, fault.problem.code)
        )

    def _smaller_chunk(self) -> int | None:
        if self._is_pictures:
            return None
        if self.part.chunk_size is None:  # it was sent directly: now in chunks
            return min(self._road.settings.chunk_size, max(1024 * 1024, self.part.size // 2))
        return halved(self.part.chunk_size)

    # the two ways

    def _direct_request(self) -> Request | None:
        """The part as one request when it fits; a part once begun in chunks stays in chunks."""
        if self._is_pictures:  # never in chunks: the API has no way for it
            return prepare_pictures(
                self._source.size, self._job.metadata, self._boundary, self._key("direct")
            )
        if self.part.chunk_size is not None:
            return None
        request = prepare_direct(
            self.part.name, self.part.size, self._job.metadata, self._boundary, self._key("direct")
        )
        return request if request.content_length <= self._road.settings.direct_limit else None

    def _direct(self, request: Request, tick: Callable[[], None]) -> str:
        self._announce_start(chunks=1, resumed=0)
        acks = self._lanes.run({0: lambda: self._send(request, 0)}, tick)
        return _batch_of(acks[0])

    def _chunked(self, tick: Callable[[], None]) -> str:
        ledger = self._road.ledger
        if self.part.upload_id is None or self.part.chunk_size is None:
            size = self.part.chunk_size or self._road.settings.chunk_size
            self._begin_session(size)
        chunks = self._plan()
        have = ledger.acknowledged(self.part)
        self._sent = {chunk.index: chunk.length for chunk in chunks if chunk.index in have}
        self._announce_start(chunks=len(chunks), resumed=len(have))
        owed = [chunk for chunk in chunks if chunk.index not in have and not chunk.is_final]
        self._send_all([chunk for chunk in owed if chunk.index == 0], tick)
        self._send_all([chunk for chunk in owed if chunk.index > 0], tick)
        return _batch_of(self._send_all([chunks[-1]], tick)[chunks[-1].index])

    def _begin_session(self, chunk_size: int, *, forgotten: bool = False) -> None:
        edge = self._road.settings.edge_chunk_size
        self.part = self._road.ledger.begin_session(self.part, chunk_size, edge, forgotten=forgotten)

    def _plan(self) -> tuple[Chunk, ...]:
        """As this session began, whatever the settings say by now."""
        return plan(self.part.size, self.part.chunk_size or 0, self.part.edge_chunk_size)

    def _send_all(self, chunks: Iterable[Chunk], tick: Callable[[], None]) -> dict[int, Ack]:
        by_index = {chunk.index: chunk for chunk in chunks}

        def task(chunk: Chunk) -> Callable[[], Taken]:
            return lambda: self._send_chunk(chunk)

        def keep(done: dict[int, Taken]) -> None:
            self._acknowledge({by_index[index]: taken for index, taken in done.items()})

        taken = self._lanes.run({index: task(chunk) for index, chunk in by_index.items()}, tick, keep)
        return {index: each.ack for index, each in taken.items()}

    def _acknowledge(self, done: dict[Chunk, Taken]) -> None:
        """Commit what the server has: together, and while the lanes go on with the next chunks."""
        sizes = {chunk.index: chunk.length for chunk in done if not chunk.is_final}
        first = next((done[chunk].ack.upload_id for chunk in done if chunk.index == 0 and sizes), None)
        if sizes:
            self._road.ledger.acknowledge(self.part, sizes, first)
        if first is not None:
            self.part = replace(self.part, upload_id=first)
        for chunk, taken in done.items():
            self._road.announce(
                events.ChunkAcknowledged(
                    self._job.id, self.part.index, chunk.index, chunk.length, taken.seconds
                )
            )

    # one request, on a chunk thread

    def _send_chunk(self, chunk: Chunk) -> Taken:
        clock = self._road.clock
        request = prepare_chunk(
            self.part.name,
            chunk,
            self.part.upload_id,
            self._job.metadata,
            self._boundary,
            self._key(f"{self.part.upload_id or 'new'}-{chunk.index}-{chunk.offset}-{chunk.length}"),
        )
        began = clock.monotonic()
        ack = self._send(request, chunk.index)
        return Taken(ack, clock.monotonic() - began)

    def _send(self, request: Request, index: int) -> Ack:
        def progress(sent: int) -> None:
            self._sent[index] = sent

        def make_body() -> Body:
            self._sent[index] = 0
            body = Body(
                request,
                self._source,
                self._halt,
                progress=progress,
                before_last=self._intend(request),
                limit=self._road.limit,
                block_size=self._block_size,
                clock=self._road.clock,
            )
            if request.makes_batch:
                self._last_body, self._awaits_answer = body, False
            return body

        def on_retry(attempt: int, seconds: float, problem: Problem) -> None:
            if request.makes_batch:
                self._final_was_taken = self._final_was_taken or self._was_sent_whole
                self._awaits_answer = False
            self._road.announce(
                events.ChunkRetried(
                    self._job.id, self.part.index, index, attempt, seconds, problem.code, problem.summary
                )
            )

        def on_pause(seconds: float) -> None:
            if request.makes_batch:
                self._awaits_answer = False
            self._road.announce(events.ServerSlowedDown(seconds))

        attempts = Attempts(
            self._road.settings.attempts,
            on_retry,
            on_pause,
            # a second try's sure failure says nothing of the first
            on_definite=self._withdraw_intent if request.makes_batch and not self._resending else _nothing,
        )
        return self._sender.send(request, make_body, attempts)

    def _intend(self, request: Request) -> Callable[[], None]:
        """Commit, before the bytes that complete it, that the request for the batch goes out."""
        if not request.makes_batch:
            return _nothing

        def intend() -> None:
            self.part = self._road.ledger.final_goes_out(self.part)
            self._awaits_answer = True

        return intend

    def _withdraw_intent(self) -> None:
        self.part = self._road.ledger.final_not_sent(self.part)

    def _key(self, what: str) -> str:
        """For a header, which takes ASCII alone; a server may put other letters into its ids."""
        return f"omrwatchd-{self.part.id}-{self.part.sessions}-{quote(what, safe='')}"

    def _announce_start(self, chunks: int, resumed: int) -> None:
        self._road.announce(
            events.UploadStarted(
                self._job.id,
                self.part.name,
                self.part.index,
                self.part.size,
                chunks,
                resumed,
                self._job.attempts,
            )
        )


def _nothing() -> None:
    pass


def _batch_of(ack: Ack) -> str:
    assert ack.batch_id is not None  # retry.acknowledgement has seen it
    return ack.batch_id
