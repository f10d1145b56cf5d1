"""What a check found: a sentence, how bad it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from omrwatchd.errors import Problem


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, but slower, later or less surely than it should."""
    FAIL = "fail"
    """Files would not be delivered."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    ``name`` is stable, for machines: ``token``, or ``drop:default`` where a [[watch]] is meant.
    """

    name: str
    level: Level
    summary: str
    advice: str = ""


def ok(name: str, summary: str) -> Finding:
    return Finding(name, Level.OK, summary)


def warn(name: str, summary: str, advice: str) -> Finding:
    return Finding(name, Level.WARN, summary, advice)


def fail(name: str, summary: str, advice: str) -> Finding:
    return Finding(name, Level.FAIL, summary, advice)


def failed(name: str, problem: Problem) -> Finding:
    """A problem that the daemon itself would name at its start."""
    return Finding(name, Level.FAIL, problem.summary, problem.advice)


def reason_of(error: OSError) -> str:
    """The system's words for an error, without paths and numbers."""
    return error.strerror or str(error)
