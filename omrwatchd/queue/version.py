"""Which schema this program knows, and what is said of a database that it can't use."""

from __future__ import annotations

import os
from pathlib import Path

from omrwatchd.errors import Problem

HEAD = "0004"
"""The newest schema version (Alembic revision); a test holds it equal to migrations/."""
BUSY_TIMEOUT_SECONDS = 10
"""How long a statement waits for another process that writes."""
LOCKED_ADVICE = "End the other program that has it open (a database browser, a backup); nothing is lost."


def unusable(file: Path, reason: str) -> Problem:
    """``reason`` in SQLite's or the system's words; what they advise differs."""
    return Problem(
        "queue_unusable",
        f"The queue {file} can't be used: {reason}.",
        LOCKED_ADVICE if "locked" in reason else "Check queue.path, its folder's rights and its free space.",
    )


def is_newer(version: str) -> bool:
    """Made by a later program: revisions are numbers of four digits."""
    return version > HEAD


def other_version(file: Path, version: str) -> Problem:
    if is_newer(version):
        return Problem(
            "queue_unusable",
            f"The queue {file} is of a newer version ({version}) than this program knows ({HEAD}).",
            "Install the newer omrwatchd again, or go back to the backup made before the upgrade.",
        )
    return Problem(
        "queue_unusable",
        f"The queue {file} is of an older version ({version}) than this program knows ({HEAD}).",
        "Restart the daemon: it brings the queue up to date.",
    )


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
