"""A look into the queue with the standard library's sqlite3 alone.

`status` must answer at once, and the import of SQLAlchemy takes longer than everything else that it does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omrwatchd.model import Job, Part
from omrwatchd.queue.values import job_of, part_of
from omrwatchd.queue.version import BUSY_TIMEOUT_SECONDS, HEAD, is_there, other_version, unusable


class Glance:
    """One moment of the queue: all statements see the same."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, Any] | None = None) -> list[sqlite3.Row]:
        """``statement`` is SQL with named parameters (``:name``)."""
        return self._connection.execute(statement, values or {}).fetchall()

    def jobs(self, rest: str, values: Mapping[str, Any] | None = None) -> list[Job]:
        """Jobs with their parts; ``rest`` follows FROM jobs."""
        found: dict[int, list[Part]] = {}
        wanted = f"SELECT id FROM jobs {rest}"  # the words are ours, the values are parameters
        for row in self.rows(
            f'SELECT * FROM parts WHERE job_id IN ({wanted}) ORDER BY job_id, "index"', values
        ):
            found.setdefault(row["job_id"], []).append(part_of(row))
        rows = self.rows(f"SELECT * FROM jobs {rest}", values)
        return [job_of(row, tuple(found.get(row["id"], ()))) for row in rows]


@contextmanager
def glance(file: Path) -> Iterator[Glance | None]:
    """The queue in ``file``; None while there is none.

    Raises:
        Problem: ``queue_unusable``.
    """
    if not is_there(file):
        yield None
        return
    try:
        # rw and not ro: a reader that may not write would leave the WAL's helper files behind
        address = f"file:{quote(str(file))}?mode=rw"
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        with closing(connection):
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            yield Glance(connection) if _is_known(connection, file) else None
    except sqlite3.DatabaseError as error:
        raise unusable(file, str(error)) from error


def _is_known(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether the tables are there; they must be of the version that this program knows."""
    statement = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.execute(statement).fetchone() is None:
        return False
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is not None and row[0] != HEAD:
        raise other_version(file, str(row[0]))
    return row is not None
