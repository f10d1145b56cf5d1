"""Why the answer to a request that makes a batch can't be known, by what the server and the people noted."""

from __future__ import annotations

from typing import Any

MOMENT = 0.25
"""Seconds between what two processes note of the same thing."""
RECORDED_SECONDS = 2.0
"""Within so long after an answer is sent, its record is on disk."""
LAST_BYTES = 64
"""At most; where the server lacked just those when it broke off, they had not been sent."""
PATIENCE_SECONDS, STOP_PATIENCE_SECONDS = 5.0, 3.0
"""So long an answer is waited for (server.read_timeout), and so long when a stop is asked for meanwhile."""
LOST = ("reset", "away", "502", "504")

Request = dict[str, Any]


class Doubts:
    def __init__(self, requests: list[Request], events: list[tuple[float, str]]) -> None:
        self._requests = [line for line in requests if line.get("makes_batch")]
        self._events = events

    def requests_of(self, name: str) -> list[Request]:
        return [line for line in self._requests if line["name"] == name]

    def why(self, name: str, sent_at: float) -> str:
        """In words; "" when the outcome should be known. ``sent_at``: when the intent was committed."""
        before = [line for line in self.requests_of(name) if line["began"] <= sent_at + MOMENT]
        if not before:
            return ""
        last = before[-1]
        return self._whole(last, sent_at) if last.get("whole") else self._cut_short(last, sent_at)

    def _whole(self, last: Request, sent_at: float) -> str:
        fate, ended = last["fate"], last["ended"]
        if fate in LOST:
            return f"whole, then {fate}"
        if fate == "gone":
            return self._left(last)
        if fate in ("200", "202"):
            if self._happened(sent_at - MOMENT, ended + RECORDED_SECONDS, "kill"):
                return "killed before the answer was recorded"
            if self._happened(ended - MOMENT, ended + MOMENT, "away"):
                return "the answer broke off with the connection"
        later = [line for line in self.requests_of(last["name"]) if line["began"] >= ended]
        if fate == "500" and any(line["fate"] == "404" for line in later):
            return "forgotten after the server failed over the whole file"
        return ""

    def _left(self, last: Request) -> str:
        """The client closed the connection before there was an answer: not without need."""
        began, ended = last["began"], last["ended"]
        for what in ("kill", "cancel"):
            if self._happened(began - MOMENT, ended + MOMENT, what):
                return f"whole, then a {what}"
        if self._happened(began - MOMENT, ended - STOP_PATIENCE_SECONDS + MOMENT, "stop", "reload"):
            return "whole, then a stop, and no answer within 3 s"
        return "whole, and no answer in time" if ended - began >= PATIENCE_SECONDS - MOMENT else ""

    def _cut_short(self, last: Request, sent_at: float) -> str:
        """The server did not get it whole: only where it may have."""
        if self._happened(sent_at - MOMENT, sent_at + MOMENT, "kill"):
            return "killed between the intent and the last bytes"
        lacked_the_end_alone = 0 < last["missing"] <= LAST_BYTES
        if last["fate"] in LOST and last["ended"] >= sent_at and not lacked_the_end_alone:
            return f"the last bytes were on their way, then {last['fate']}"
        return ""

    def _happened(self, since: float, until: float, *kinds: str) -> bool:
        return any(since <= at <= until and kind in kinds for at, kind in self._events)
