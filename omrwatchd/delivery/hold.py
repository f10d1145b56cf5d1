"""Waiting out what no file is to blame for, with backoff."""

from __future__ import annotations

import random
from dataclasses import dataclass

from omrwatchd.delivery.faults import Kind
from omrwatchd.errors import Problem

FIRST_PROBE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing is sent."""

    kind: Kind
    problem: Problem


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
