"""What a part has achieved: its upload session, each acknowledged chunk, its batch.

An acknowledgement counts when its commit has returned, so that a restart resumes at the missing chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, bindparam, delete, false, func, not_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import OperationalError

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.model import OUTCOME_UNKNOWN, Part, Status, check_move
from omrwatchd.queue.rows import problem_columns
from omrwatchd.queue.schema import chunks, jobs, parts, workers
from omrwatchd.queue.values import part_of

RECORD_TRIES, RECORD_SECONDS = 30, 1.0
"""For a batch's commit; each try also waits for a lock as long as any statement does."""

_PART = select(parts).where(parts.c.id == bindparam("part_id"))
_ACKNOWLEDGED = insert(chunks).on_conflict_do_nothing()


class Ledger:
    """The parts and chunks of the job being delivered. Safe to use from several threads."""

    def __init__(self, engine: Engine, quick: Engine, clock: Clock) -> None:
        self._reader = engine
        self._writer = engine.execution_options(writes=True)
        self._quick = quick.execution_options(writes=True)
        self._clock = clock

    def part(self, part_id: int) -> Part:
        with self._reader.begin() as connection:
            return part_of(connection.execute(_PART, {"part_id": part_id}).one()._mapping)

    def move(self, part: Part, new: Status, **columns: Any) -> Part:
        """Change a part's status; the row as it is then."""
        check_move(part.status, new)
        return self._set(part, status=new, **columns)

    def fail(self, part_id: int, problem: Problem) -> None:
        """A part has failed for good; its job keeps the first such reason, and the others are tried anew.

        A reason to look on the server first outweighs all others: a retry must not pass it by.
        """
        with self._writer.begin() as connection:
            row = connection.execute(_PART, {"part_id": part_id}).one()
            check_move(Status(row.status), Status.ERROR)
            connection.execute(update(parts).where(parts.c.id == part_id).values(status=Status.ERROR))
            connection.execute(update(jobs).where(jobs.c.id == row.job_id).values(failures=0))
            keeps = jobs.c.error_code.is_not(None) if problem.code != OUTCOME_UNKNOWN else false()
            connection.execute(
                update(jobs).where(jobs.c.id == row.job_id, not_(keeps)).values(**problem_columns(problem))
            )

    def _set(self, part: Part, **columns: Any) -> Part:
        with self._writer.begin() as connection:
            connection.execute(update(parts).where(parts.c.id == part.id).values(**columns))
        return self.part(part.id)

    def acknowledged(self, part: Part) -> frozenset[int]:
        """The indexes of the chunks that the server has acknowledged in this session."""
        with self._reader.begin() as connection:
            return frozenset(
                connection.execute(select(chunks.c.index).where(chunks.c.part_id == part.id)).scalars()
            )

    def acknowledge(self, part: Part, sizes: Mapping[int, int], upload_id: str | None = None) -> None:
        """Commit acknowledged chunks, by index their bytes; chunk 0 brings the ``upload_id`` with it."""
        now = self._clock.now()
        rows = [
            {"part_id": part.id, "index": index, "size": size, "acknowledged_at": now}
            for index, size in sizes.items()
        ]
        with self._writer.begin() as connection:
            connection.execute(_ACKNOWLEDGED, rows)
            if upload_id is not None:
                connection.execute(update(parts).where(parts.c.id == part.id).values(upload_id=upload_id))

    def begin_session(
        self, part: Part, chunk_size: int, edge: int | None, *, forgotten: bool = False
    ) -> Part:
        """Begin an upload at chunk 0 with chunks of so many bytes (chunks.plan); an old one is void."""
        anew = {
            "upload_id": None,
            "chunk_size": chunk_size,
            "edge_chunk_size": edge,
            "final_sent_at": None,
            "bytes_sent": 0,
            "sessions": part.sessions + (1 if forgotten else 0),
        }
        with self._writer.begin() as connection:
            connection.execute(delete(chunks).where(chunks.c.part_id == part.id))
            connection.execute(update(parts).where(parts.c.id == part.id).values(anew))
        return self.part(part.id)

    def final_goes_out(self, part: Part) -> Part:
        """Before the request that makes the batch: from here on its outcome may be unknown."""
        return self._set(part, final_sent_at=self._clock.now())

    def final_not_sent(self, part: Part) -> Part:
        """That request surely made no batch."""
        return self._set(part, final_sent_at=None)

    def batch_created(self, part: Part, batch_id: str) -> Part:
        """The server's answer: this part is a batch now. The last part makes the job delivered.

        Nothing else knows of the batch: while the database is locked or its disk full, it is tried again.
        """
        for left in reversed(range(RECORD_TRIES)):
            try:
                self._record_batch(part, batch_id)
                break
            except OperationalError:
                if not left:
                    raise
                self._clock.wait(threading.Event(), RECORD_SECONDS)
        return self.part(part.id)

    def _record_batch(self, part: Part, batch_id: str) -> None:
        with self._writer.begin() as connection:
            connection.execute(
                update(parts)
                .where(parts.c.id == part.id)
                .values(status=Status.PROCESSING, batch_id=batch_id, bytes_sent=part.size)
            )
            owed = connection.execute(
                select(func.count())
                .select_from(parts)
                .where(parts.c.job_id == part.job_id, parts.c.batch_id.is_(None))
            ).scalar_one()
            if owed == 0:
                connection.execute(
                    update(jobs).where(jobs.c.id == part.job_id).values(delivered_at=self._clock.now())
                )

    def processing_started(self, part: Part) -> Part:
        """The server accepted to process the batch: it is not asked again."""
        return self._set(part, started_at=self._clock.now())

    def progress(self, part: Part, bytes_sent: int, worker: str, rate: float | None) -> None:
        """How far the upload is, and at which rate (bytes a second), for people; one commit, not fsynced.

        What the database can't take now is told a little later: no upload ends for it.
        """
        with suppress(OperationalError), self._quick.begin() as connection:
            connection.execute(update(parts).where(parts.c.id == part.id).values(bytes_sent=bytes_sent))
            life = {"heartbeat": self._clock.now(), "rate": rate}
            connection.execute(update(workers).where(workers.c.id == worker).values(life))
