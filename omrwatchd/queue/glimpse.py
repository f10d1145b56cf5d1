"""What the daemon is at, in one cheap look: it is taken every other second, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from omrwatchd.model import Status, WorkerState
from omrwatchd.queue.database import Changes, open_quick
from omrwatchd.queue.schema import jobs, parts, workers


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The daemon at one moment."""

    state: WorkerState
    reason: str | None
    rate: float | None
    """Bytes a second, while uploading."""
    file: str | None
    """The name of the file under way."""
    percent: int | None
    """How much of it the server has."""
    waiting: int
    """Files in the queue behind it."""


class Glance:
    """Reads a queue whose schema is up to date; on one thread."""

    def __init__(self, file: Path) -> None:
        self._engine = open_quick(file)
        self._changes = Changes(self._engine)

    def changed(self) -> bool:
        """Whether the queue was written to since the last time; True at the first."""
        return self._changes.seen()

    def look(self) -> Glimpse:
        with self._engine.begin() as connection:
            row = connection.execute(select(workers).order_by(workers.c.heartbeat.desc()).limit(1)).one()
            waiting = connection.execute(
                select(func.count()).select_from(jobs).where(jobs.c.status == Status.PENDING)
            ).scalar_one()
            file, percent = _file(connection, row.job_id)
        return Glimpse(WorkerState(row.state), row.reason, row.rate, file, percent, int(waiting))

    def close(self) -> None:
        self._changes.close()
        self._engine.dispose()


def _file(connection: Connection, job_id: int | None) -> tuple[str | None, int | None]:
    statement = (
        select(jobs.c.name, func.sum(parts.c.size), func.sum(parts.c.bytes_sent))
        .join(parts, parts.c.job_id == jobs.c.id)
        .where(jobs.c.id == job_id)
        .group_by(jobs.c.id)
    )
    found = None if job_id is None else connection.execute(statement).first()
    if found is None:
        return None, None
    name, size, sent = found
    return name, int(min(100, 100 * sent // size)) if size else 0
