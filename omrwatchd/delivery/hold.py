"""Waiting out what no file is to blame for: probe with backoff, and go on by itself."""

from __future__ import annotations

import random
from dataclasses import dataclass

from omrwatchd.delivery.client import RequestLost, Transport, authorised
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.faults import Kind
from omrwatchd.errors import Problem

FIRST_PROBE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
_STATUS_OF_AN_ABSENT_SERVER = frozenset({502, 503, 504, *range(520, 528), 530})


@dataclass(frozen=True, slots=True)
class Hold:
    """Why and since when nothing is sent."""

    kind: Kind
    problem: Problem
    since: float
    """Seconds since the epoch."""


class Backoff:
    """5, 10, 20 … seconds up to 5 minutes, with jitter; begins anew after a success."""

    def __init__(self) -> None:
        self._tries = 0

    def next(self) -> float:
        seconds: float = min(LONGEST_WAIT_SECONDS, FIRST_PROBE_SECONDS * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        return seconds * random.uniform(0.9, 1.1)

    def reset(self) -> None:
        self._tries = 0


class Probe:
    """Asks whether the server is there."""

    def __init__(self, transport: Transport, credentials: Credentials, path: str) -> None:
        self._transport = transport
        self._credentials = credentials
        self._path = path

    def answers(self, kind: Kind) -> bool:
        """Whether what caused a hold of this kind looks mended; any answer of a server will do for most."""
        try:
            answer = authorised(self._transport, self._credentials, "GET", self._path)
        except (RequestLost, Problem):
            return False
        if answer.status in _STATUS_OF_AN_ABSENT_SERVER:
            return False
        return not (kind is Kind.CREDENTIALS and answer.status == 401)
