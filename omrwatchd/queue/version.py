"""Which schema this program knows, and what is said of a database that it can't use."""

from __future__ import annotations

from pathlib import Path

from omrwatchd.errors import Problem

HEAD = "0003"
"""The newest schema version (Alembic revision); a test holds it equal to migrations/."""
BUSY_TIMEOUT_SECONDS = 10
"""How long a statement waits for another process that writes."""


def unusable(file: Path, reason: str) -> Problem:
    return Problem(
        "queue_unusable",
        f"The queue {file} can't be used: {reason}.",
        "Check queue.path, its folder's rights and its free space.",
    )


def other_version(file: Path, version: str) -> Problem:
    return unusable(file, f"its schema is version {version}, this program knows {HEAD}")
