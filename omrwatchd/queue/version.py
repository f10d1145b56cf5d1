"""Which schema this program knows, and what is said of a database that it can't use."""

from __future__ import annotations

import os
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


def is_there(file: Path) -> bool:
    """Whether there is a queue yet.

    Raises:
        Problem: ``queue_unusable``: this user may not work with it.
    """
    try:
        file.stat()
    except FileNotFoundError:
        return False
    except PermissionError:
        raise _private(file) from None
    except OSError as error:
        raise unusable(file, error.strerror or str(error)) from None
    if not os.access(file, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _private(file)
    return True


def _private(file: Path) -> Problem:
    return Problem(
        "queue_unusable",
        f"The queue {file} belongs to another user.",
        "Use sudo, or be the user that the daemon runs as.",
    )
