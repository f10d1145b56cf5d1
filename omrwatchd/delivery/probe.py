"""Is the server there? Asked while the queue is held, and before what could not be taken back."""

from __future__ import annotations

from omrwatchd.clock import Clock
from omrwatchd.delivery.client import RequestLost, Transport, authorised, on_living_connection
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Fault, Kind, judge_answer, judge_lost
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.wire import DIRECT_PATH, in_own_words
from omrwatchd.errors import Problem

FRESH_SECONDS = 1.0
"""For so long after an acknowledgement the server is taken to be there still."""
_STATUS_OF_AN_ABSENT_SERVER = frozenset({502, 503, 504, *range(520, 528), 530})


class Probe:
    """Asks, by a GET, where uploads go: a proxy may well answer elsewhere with nothing behind it."""

    def __init__(self, transport: Transport, credentials: Credentials, path: str, clock: Clock) -> None:
        """``path``: server.probe_path, which has to answer as well before a hold ends; may be empty."""
        self._transport = transport
        self._credentials = credentials
        self._paths = (path, DIRECT_PATH) if path else (DIRECT_PATH,)
        self._clock = clock
        self._heard_at: float | None = None

    def heard(self, acknowledged: bool) -> None:
        """The server has acknowledged something, or has not."""
        self._heard_at = self._clock.monotonic() if acknowledged else None

    def answers(self, kind: Kind) -> bool:
        """Whether what caused a hold of this kind looks mended; any answer of a server will do for most."""
        return all(self._answers_at(path, kind) for path in self._paths)

    def _answers_at(self, path: str, kind: Kind) -> bool:
        try:
            answer = authorised(self._transport, self._credentials, "GET", path)
        except (RequestLost, Problem):
            return False
        if answer.status in _STATUS_OF_AN_ABSENT_SERVER:
            return False
        return not (kind is Kind.CREDENTIALS and answer.status == 401)

    def serves(self) -> bool:
        """Whether the upload's address is the server's now, and not a proxy's that knows of none."""
        try:
            answer = authorised(self._transport, self._credentials, "GET", DIRECT_PATH)
        except (RequestLost, Problem):
            return False
        return answer.status not in (404, 410) or in_own_words(answer)

    def look(self, halt: Halt) -> Fault | None:
        """What keeps the server from taking a batch; None when it is there, or was a moment ago.

        A proxy takes a whole request before it finds nobody behind it: of one that makes a batch the outcome
        would then be unknown. Raises Halted.
        """
        if self._heard_at is not None and self._clock.monotonic() - self._heard_at < FRESH_SECONDS:
            return None
        try:
            token = self._credentials.token()
            answer = on_living_connection(
                lambda: self._transport.send("GET", DIRECT_PATH, token=token), lambda: not halt.event.is_set()
            )
        except Problem:
            return None  # no usable token: the request itself is about to find that out
        except RequestLost as lost:
            halt.check()
            return judge_lost(lost.how, lost.detail, None, sent_whole=False)
        if answer.status not in _STATUS_OF_AN_ABSENT_SERVER:
            return None
        return judge_answer(answer, None, sent_whole=False, now=self._clock.now())
