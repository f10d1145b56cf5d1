"""What is old: delivered files that may leave done/, and finished jobs that may leave the list.

A delivered job keeps a short record for good: its name, its content's fingerprint, its batches. Without it
the same scan, dropped again after a year, would become a second batch. `finished_at` is taken out of that
record and it is hidden, so that neither `status` nor `summary` shows it, and it is not looked at again.
A job of which surely nothing reached the server loses its row, parts and all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, and_, delete, or_, select, update

from omrwatchd.errors import Problem
from omrwatchd.model import FINAL, Job, Status
from omrwatchd.queue.database import open_database, usable
from omrwatchd.queue.rows import read_jobs
from omrwatchd.queue.schema import chunks, jobs, parts

AT_ONCE = 200
"""Jobs in one transaction: the daemon's other writers wait for it."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """How many jobs lost their row, and of how many a short record is left."""

    deleted: int
    shortened: int


class History:
    """Reads and shortens the past. One for a thread; opens the queue anew for each call."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextmanager
    def _begin(self, *, writes: bool) -> Iterator[Connection]:
        """A transaction; Problem, ``queue_unusable``, when the database refuses it."""
        if not os.path.exists(self._file):  # SQLite would make an empty one
            raise Problem("queue_unusable", f"The queue {self._file} is gone.", "Restart the daemon.")
        with usable(self._file):
            engine = open_database(self._file, create=False)
            try:
                with engine.execution_options(writes=writes).begin() as connection:
                    yield connection
            finally:
                engine.dispose()

    def filed_before(self, moment: float, after: int) -> list[Job]:
        """Delivered jobs whose file the daemon itself filed under done/ before ``moment``.

        By id, from the first above ``after``, AT_ONCE at most.

        Raises:
            Problem: ``queue_unusable``; so do the others.
        """
        with self._begin(writes=False) as connection:
            return read_jobs(
                connection,
                jobs.c.id > after,
                jobs.c.status == Status.COMPLETED,
                jobs.c.filed_at < moment,
                jobs.c.summary_at.is_not(None),
                # set for the move, and equal only where the move was ours: a file that was found gone or
                # replaced when it should be filed has another, or none
                jobs.c.filing_target == jobs.c.path,
                limit=AT_ONCE,
            )

    def file_left(self, job_id: int) -> None:
        """Nothing of ours lies at the job's path any more."""
        with self._begin(writes=True) as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status == Status.COMPLETED)
                .values(filing_target=None)
            )

    def trim(self, moment: float) -> Trimmed:
        """Take up to AT_ONCE jobs that finished before ``moment`` out of the history; writes only then."""
        with self._begin(writes=False) as connection:
            if not _finished_before(connection, moment):
                return Trimmed(0, 0)
        with self._begin(writes=True) as connection:
            return _trim(connection, _finished_before(connection, moment))


def _finished_before(connection: Connection, moment: float) -> list[int]:
    """Ended, filed and summed up: nothing is owed for them any more."""
    statement = (
        select(jobs.c.id)
        .where(
            jobs.c.finished_at < moment,
            jobs.c.status.in_(FINAL),
            jobs.c.filed_at.is_not(None),
            jobs.c.summary_at.is_not(None),
        )
        .order_by(jobs.c.finished_at)
        .limit(AT_ONCE)
    )
    return list(connection.execute(statement).scalars())


def _trim(connection: Connection, old: list[int]) -> Trimmed:
    # a batch, or one that may have come of a lost answer
    on_server = select(parts.c.job_id).where(
        parts.c.job_id.in_(old), or_(parts.c.batch_id.is_not(None), parts.c.final_sent_at.is_not(None))
    )
    known = and_(jobs.c.id.in_(old), or_(jobs.c.id.in_(on_server), jobs.c.delivered_at.is_not(None)))
    keep = list(connection.execute(select(jobs.c.id).where(known)).scalars())
    gone = [each for each in old if each not in set(keep)]
    connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
    its_parts = select(parts.c.id).where(parts.c.job_id.in_(keep))
    connection.execute(delete(chunks).where(chunks.c.part_id.in_(its_parts)))
    connection.execute(
        update(jobs).where(jobs.c.id.in_(keep)).values(finished_at=None, hidden=True, notes=None)
    )
    return Trimmed(len(gone), len(keep))
