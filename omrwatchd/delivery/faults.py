"""What a failure means: one table, pure, tested row by row (DESIGN.md, Upload)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

from omrwatchd.delivery.wire import Answer, Request, is_html, server_message
from omrwatchd.errors import Problem
from omrwatchd.model import OUTCOME_UNKNOWN


class Lost(StrEnum):
    """How a request ended without an answer."""

    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    PROXY = "proxy"
    RESET = "reset"
    READ_TIMEOUT = "read_timeout"
    WRITE_TIMEOUT = "write_timeout"
    PROTOCOL = "protocol"


class Kind(StrEnum):
    """What is done about a failure."""

    CHUNK = "chunk"
    SLOW_DOWN = "slow_down"
    SESSION = "session"
    SIZE = "size"
    CREDENTIALS = "credentials"
    OUTAGE = "outage"
    MISCONFIGURED = "misconfigured"
    FILE = "file"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed request, judged."""

    kind: Kind
    problem: Problem
    wait: float | None = None
    """Seconds that the server asked to be left alone."""


_AGAIN = frozenset({408, 499, 500, 502, 503, 504, 520, 522, 524})
_AWAY = frozenset({521, 523, 525, 526, 530})
_ANSWER_LOST_BEHIND_GATEWAY = frozenset({502, 504, 520, 524})
"""The gateway had sent the request on: whether the server acted on it can't be known."""
_REFUSED = frozenset({400, 403, 409, 415, 422})
"""About this file, when the server itself says so; 404, 405 and their like tell of a wrong address."""
_SHORTEST_PAUSE_SECONDS = 1.0
"""A pause costs no attempt: without one between two requests it would be a hammering."""
_NO_ANSWER_YET = frozenset({Lost.CONNECT, Lost.DNS, Lost.TLS, Lost.PROXY})

_LOST_WORDS = {
    Lost.CONNECT: ("server_unreachable", "The server can't be reached"),
    Lost.DNS: ("dns_failed", "The server's name can't be resolved"),
    Lost.TLS: ("tls_failed", "The secure connection to the server failed"),
    Lost.PROXY: ("proxy_failed", "The proxy can't be used"),
    Lost.RESET: ("connection_lost", "The connection to the server was lost"),
    Lost.READ_TIMEOUT: ("no_answer", "The server did not answer in time"),
    Lost.WRITE_TIMEOUT: ("stalled", "The server took no data for too long"),
    Lost.PROTOCOL: ("bad_answer", "The server's answer was not HTTP"),
}

RETRIED_CODES = (
    "server_error",
    *(code for how, (code, _) in _LOST_WORDS.items() if how not in _NO_ANSWER_YET),
)
"""Of all faults for which a chunk is sent again (Kind.CHUNK)."""

_GATE_ADVICE = "Nothing to do: delivery goes on by itself when the server is back."
_ADDRESS_ADVICE = "Check server.base_url; delivery goes on by itself when it is right."
_TOKEN_ADVICE = "Give a valid token in server.token or server.token_file; delivery then goes on by itself."
UNKNOWN_ADVICE = (
    "Look on the server whether the batch is there. "
    "If it is not, drop the file again; if it is, nothing is owed."
)


def judge_lost(how: Lost, detail: str, request: Request | None, *, sent_whole: bool) -> Fault:
    """A request that got no answer; ``sent_whole``: its body had left us to the last byte."""
    code, words = _LOST_WORDS[how]
    problem = Problem(code, f"{words}{f' ({detail})' if detail else ''}.", _GATE_ADVICE)
    if how in _NO_ANSWER_YET:
        return Fault(Kind.OUTAGE, problem)
    if request is not None and request.makes_batch and sent_whole:
        return _unknown(problem.summary)
    return Fault(Kind.CHUNK, problem)


def judge_answer(answer: Answer, request: Request | None, *, sent_whole: bool, now: float) -> Fault:
    """An answer that is no acknowledgement; ``now`` is in seconds since the epoch, for dated Retry-After."""
    status = answer.status
    makes_batch = request is not None and request.makes_batch and sent_whole
    if makes_batch and status in _ANSWER_LOST_BEHIND_GATEWAY:  # even where it asks for a pause
        return _unknown(f"The server's answer was lost on the way (HTTP {status}).")
    wait = retry_after(answer, now)
    if status == 429 or (wait is not None and status >= 400):
        problem = Problem("slow_down", f"The server asks for a pause (HTTP {status}).", _GATE_ADVICE)
        return Fault(Kind.SLOW_DOWN, problem, max(_SHORTEST_PAUSE_SECONDS, 5.0 if wait is None else wait))
    if status in _AGAIN:
        return Fault(Kind.CHUNK, Problem("server_error", _said(answer), _GATE_ADVICE))
    if status in _AWAY:
        return Fault(
            Kind.OUTAGE, Problem("server_unreachable", f"The server is away (HTTP {status}).", _GATE_ADVICE)
        )
    if 200 <= status < 300:
        return _judge_success(answer, makes_batch)
    return _judge_refusal(answer, request)


def _judge_success(answer: Answer, makes_batch: bool) -> Fault:
    if is_html(answer):
        return _misconfigured(f"A web page answered in place of the OMR server (HTTP {answer.status}).")
    if makes_batch:
        return _unknown("The server took the file but its answer names no batch.")
    return _misconfigured(f"The server's answer is not what its API promises (HTTP {answer.status}).")


def _judge_refusal(answer: Answer, request: Request | None) -> Fault:
    status = answer.status
    if status == 401:
        problem = Problem("token_rejected", "The server rejects the token (HTTP 401).", _TOKEN_ADVICE)
        return Fault(Kind.CREDENTIALS, problem)
    if status == 413:
        problem = Problem(
            "too_large",
            "The server takes no request of this size (HTTP 413).",
            "Lower upload.chunk_size, or raise the limit on the server.",
        )
        return Fault(Kind.SIZE, problem)
    if status in (404, 410) and request is not None and request.upload_id is not None:
        return Fault(
            Kind.SESSION, Problem("upload_forgotten", f"The server forgot the upload (HTTP {status}).")
        )
    if status in _REFUSED and not is_html(answer) and server_message(answer) is not None:
        return Fault(
            Kind.FILE,
            Problem("refused", _said(answer), "Mend what the server says, then drop the file again."),
        )
    if status >= 500:
        return Fault(Kind.CHUNK, Problem("server_error", _said(answer), _GATE_ADVICE))
    return _misconfigured(f"This is not the OMR server's answer to an upload (HTTP {status}).")


def _misconfigured(summary: str) -> Fault:
    return Fault(Kind.MISCONFIGURED, Problem("misconfigured", summary, _ADDRESS_ADVICE))


def not_the_server(status: int) -> Fault:
    """A page says 404 in the server's place: proxies do that, too, while they know of no server."""
    return _misconfigured(f"Something else answers in the OMR server's place (HTTP {status}).")


def forgotten_after_the_final_chunk(fault: Fault) -> Fault:
    """The server failed over the whole file, and by now has no such upload: did it make the batch first?"""
    return _in_doubt(f"{fault.problem.summary} It had the whole file before, so the batch may exist.")


def unknown_after_a_crash() -> Fault:
    """Of an intent that was committed in an earlier life, nothing else is known."""
    return _in_doubt(
        "The daemon ended while the server's last answer was awaited, so the batch may exist.",
    )


def _unknown(summary: str) -> Fault:
    return _in_doubt(f"{summary} The file was sent to its last byte, so the batch may exist.")


def _in_doubt(summary: str) -> Fault:
    return Fault(Kind.UNKNOWN, Problem(OUTCOME_UNKNOWN, summary, UNKNOWN_ADVICE))


def _said(answer: Answer) -> str:
    message = server_message(answer)
    if message is None:
        return f"The server answered HTTP {answer.status}."
    return f"The server said: {message} (HTTP {answer.status})"


def retry_after(answer: Answer, now: float) -> float | None:
    """Seconds to wait by the Retry-After header (RFC 9110, 10.2.3), at most an hour; None without one."""
    value = answer.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value) if value.isdecimal() else _seconds_until(value, now)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), 3600.0)


def _seconds_until(date: str, now: float) -> float:
    when = parsedate_to_datetime(date)
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() - now
