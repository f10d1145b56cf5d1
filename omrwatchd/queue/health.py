"""A look at the queue's file from outside, whatever state it is in: for `doctor`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from omrwatchd.queue.version import BUSY_TIMEOUT_SECONDS, HEAD


@dataclass(frozen=True, slots=True)
class Health:
    """What SQLite says of its file."""

    complaints: tuple[str, ...]
    """Of the integrity check; empty when it is sound."""
    version: str | None
    """Its schema's; None when it has none yet."""
    jobs: int

    @property
    def newest_version(self) -> str:
        """What this program would bring the schema to."""
        return HEAD


def examine(file: Path) -> Health:
    """Check an existing database; it may be in use, and nothing is changed in it.

    Raises:
        OSError: it can't be opened, or is no database; with SQLite's words.
    """
    try:
        # rw and not ro: a reader that may not write would leave the WAL's helper files behind
        address = f"file:{quote(str(file))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
            return _look(connection)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _look(connection: sqlite3.Connection) -> Health:
    said = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    complaints = [] if said == ["ok"] else said
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        complaints.append("a row refers to one that is missing")
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version, count = None, 0
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        version = None if row is None else str(row[0])
    if "jobs" in tables:
        count = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    return Health(tuple(complaints), version, count)
