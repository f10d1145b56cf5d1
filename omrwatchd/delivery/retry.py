"""One request, tried until it is acknowledged, refused, or its attempts are used up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from omrwatchd.clock import Clock
from omrwatchd.delivery.body import Body
from omrwatchd.delivery.client import RequestLost, Transport, authorised, on_living_connection
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Fault, Kind, judge_answer, judge_lost, not_the_server
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.probe import Probe
from omrwatchd.delivery.wire import Ack, Answer, Request, in_own_words, process
from omrwatchd.errors import Problem

FIRST_WAIT_SECONDS = 2.0
"""Before the second attempt; 4 s before the third (API.md, What follows for a client)."""
JITTER_SECONDS = 0.5


class Failed(Exception):
    """A request, or what it was for, failed for good."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.problem.summary)
        self.fault = fault


class Pause:
    """The server's wish to be left alone, heard by all threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0

    def ask(self, seconds: float) -> None:
        with self._lock:
            self._until = max(self._until, self._clock.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until it is over; 0: there is none."""
        return max(0.0, self._until - self._clock.monotonic())

    def observe(self, halt: Halt) -> None:
        """Wait until the pause is over; raises Halted."""
        while (left := self._until - self._clock.monotonic()) > 0:
            self._clock.wait(halt.event, left)
            halt.check()


@dataclass(frozen=True, slots=True)
class Attempts:
    """How a request is tried again."""

    most: int
    on_retry: Callable[[int, float, Problem], None]
    """Called before each wait with the attempt that failed, the wait in seconds, and why."""
    on_pause: Callable[[float], None]
    on_definite: Callable[[], None]
    """The last bytes had gone out, and surely made no batch."""


class Sender:
    """Sends requests for one upload; safe to use from its chunk threads."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        probe: Probe,
        clock: Clock,
        pause: Pause,
        halt: Halt,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._probe = probe
        self._clock = clock
        self._pause = pause
        self._halt = halt

    def send(self, request: Request, make_body: Callable[[], Body], attempts: Attempts) -> Ack:
        """The acknowledgement.

        Raises:
            Failed: with the fault that remained.
            Halted: the upload was ended from outside.
        """

        def announce(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            assert isinstance(error, Failed)
            attempts.on_retry(state.attempt_number, state.upcoming_sleep, error.fault.problem)

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts.most),
            wait=tenacity.wait_exponential(multiplier=FIRST_WAIT_SECONDS)
            + tenacity.wait_random(0, JITTER_SECONDS),
            retry=tenacity.retry_if_exception(_worth_another),
            sleep=self._sleep,
            before_sleep=announce,
            reraise=True,
        )
        return retrying(self._attempt, request, make_body, attempts)

    def _sleep(self, seconds: float) -> None:
        self._clock.wait(self._halt.event, seconds)
        self._halt.check()

    def _attempt(self, request: Request, make_body: Callable[[], Body], attempts: Attempts) -> Ack:
        while True:
            self._pause.observe(self._halt)
            result: Ack | Fault | None = self._probe.look(self._halt) if request.makes_batch else None
            result = result or self._exchange(request, _Bodies(make_body, attempts.on_definite))
            self._probe.heard(isinstance(result, Ack))
            if isinstance(result, Ack):
                return result
            if result.kind is not Kind.SLOW_DOWN:
                raise Failed(result)
            self._pause.ask(result.wait or 0.0)
            attempts.on_pause(result.wait or 0.0)

    def _exchange(self, request: Request, bodies: _Bodies) -> Ack | Fault:
        result = self._judged(request, bodies)
        if isinstance(result, Fault) and result.kind is not Kind.UNKNOWN:
            bodies.made_no_batch()
        return result

    def _judged(self, request: Request, bodies: _Bodies) -> Ack | Fault:
        arguments = (self._transport, self._credentials, "POST", request.path, request.headers, bodies.make)
        try:
            answer = on_living_connection(
                lambda: authorised(*arguments),
                lambda: not (bodies.last_bytes_began or self._halt.event.is_set()),
            )
        except RequestLost as lost:
            bodies.learn(untaken=lost.untaken)
            self._halt.check()
            return judge_lost(lost.how, lost.detail, request, sent_whole=bodies.last_bytes_began)
        except Problem as problem:  # no usable token
            return Fault(Kind.CREDENTIALS, problem)
        bodies.learn(untaken=answer.untaken)
        if (ack := acknowledgement(request, answer)) is not None:
            return ack
        fault = judge_answer(answer, request, sent_whole=bodies.last_bytes_began, now=self._clock.now())
        if fault.kind is Kind.SESSION and not in_own_words(answer) and not self._probe.serves():
            return not_the_server(answer.status)
        return fault


class _Bodies:
    """The bodies of one attempt: a second one where the token had to be renewed."""

    def __init__(self, make_body: Callable[[], Body], on_definite: Callable[[], None]) -> None:
        self._make_body = make_body
        self._on_definite = on_definite
        self._latest: Body | None = None

    def make(self) -> Body:
        self.made_no_batch()  # or there would be no second body
        self._latest = self._make_body()
        return self._latest

    def made_no_batch(self) -> None:
        """What was sent so far has surely made none."""
        if self.last_bytes_began:
            self._on_definite()

    def learn(self, *, untaken: bool) -> None:
        """``untaken``: the way was closed before the last bytes, which had been given out."""
        if untaken and self._latest is not None:
            self.made_no_batch()
            self._latest.last_bytes_began = False

    @property
    def last_bytes_began(self) -> bool:
        return self._latest is not None and self._latest.last_bytes_began


def acknowledgement(request: Request, answer: Answer) -> Ack | None:
    """The Ack in an answer when it holds all that the API promises for this request, else None.

    A chunk counts when the upload that it belongs to is named: what only looks like a success (a portal's
    ``{"ok": true}``) would leave a hole in the file.
    """
    if not 200 <= answer.status < 300:
        return None
    ack = process(answer)
    if ack is None or (ack.batch_id if request.makes_batch else ack.upload_id) is None:
        return None
    if not request.makes_batch and request.upload_id not in (None, ack.upload_id):
        return None
    return ack


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, Failed) and error.fault.kind is Kind.CHUNK
