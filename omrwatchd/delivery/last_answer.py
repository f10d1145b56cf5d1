"""The lost last answer: does the server have a batch of this upload? (server.lookup_path)"""

from __future__ import annotations

from urllib.parse import quote

from omrwatchd.clock import Clock
from omrwatchd.delivery.client import RequestLost, Transport, authorised
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Fault, Kind, judge_answer, judge_lost
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.retry import Failed
from omrwatchd.delivery.wire import Answer, in_own_words, json_object, process
from omrwatchd.errors import Problem

LOOKS = 3
LOOK_SECONDS = 5.0
"""Before each look: a server may still be putting the file together."""


class LastAnswer:
    """Looks a batch up by its upload."""

    def __init__(self, transport: Transport, credentials: Credentials, clock: Clock, path: str) -> None:
        self._transport = transport
        self._credentials = credentials
        self._clock = clock
        self._path = path

    @property
    def can_look(self) -> bool:
        return bool(self._path)

    def find(self, upload_id: str, halt: Halt) -> str | None:
        """The upload's batch_id; None when the server has said, at every look, that there is none.

        Raises:
            Failed: by a fault of the way: nothing is known, the queue is held, and it is asked again.
            Halted: ended from outside.
        """
        for _ in range(LOOKS):
            self._clock.wait(halt.event, LOOK_SECONDS)
            halt.check()
            answer = self._ask(upload_id, halt)
            if not _is_absent(answer):
                return self._batch_of(answer)
        return None

    def _ask(self, upload_id: str, halt: Halt) -> Answer:
        path = self._path.replace("{upload_id}", quote(upload_id, safe=""))
        try:
            return authorised(self._transport, self._credentials, "GET", path)
        except RequestLost as lost:
            halt.check()
            fault = judge_lost(lost.how, lost.detail, None, sent_whole=False)
            raise Failed(Fault(Kind.OUTAGE, fault.problem)) from lost
        except Problem as problem:  # no usable token
            raise Failed(Fault(Kind.CREDENTIALS, problem)) from None

    def _batch_of(self, answer: Answer) -> str:
        ack = process(answer) if 200 <= answer.status < 300 else None
        if ack is not None and ack.batch_id is not None:
            return ack.batch_id
        fault = judge_answer(answer, None, sent_whole=False, now=self._clock.now())
        if fault.kind is Kind.CREDENTIALS or answer.status >= 500 or answer.status in (408, 429):
            raise Failed(Fault(Kind.CREDENTIALS if answer.status == 401 else Kind.OUTAGE, fault.problem))
        raise Failed(
            Fault(
                Kind.MISCONFIGURED,
                Problem(
                    "lookup_unusable",
                    f"server.lookup_path does not tell whether a batch exists (HTTP {answer.status}).",
                    "Mend it, or leave it out; delivery goes on by itself after a while.",
                ),
            )
        )


def _is_absent(answer: Answer) -> bool:
    """A definite no: 404 or 410 in the server's own words, or a batch_id that is null."""
    if answer.status in (404, 410):
        return in_own_words(answer)
    document = json_object(answer.body) if 200 <= answer.status < 300 else None
    return document is not None and "batch_id" in document and document["batch_id"] is None
