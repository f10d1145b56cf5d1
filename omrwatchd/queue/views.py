"""What people and programs read of the queue, from outside the daemon; never writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select

from omrwatchd.clock import Clock
from omrwatchd.model import ACTIVE, FINAL, Arriving, Job, Status, WorkerState
from omrwatchd.queue.database import open_database, schema_version
from omrwatchd.queue.rows import read_jobs
from omrwatchd.queue.schema import arriving, jobs, workers
from omrwatchd.queue.workers import is_alive, is_here

RECENT = 20
"""Finished jobs that `status` shows."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The daemon as seen from outside."""

    state: WorkerState
    reason: str | None
    cooldown_left: float
    """Seconds."""
    heartbeat: float | None
    """Seconds since the epoch: the latest sign of life."""
    rate: float | None
    """Bytes a second, while uploading."""
    since: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything `status` shows, from one moment."""

    worker: WorkerView
    jobs: tuple[Job, ...]
    arriving: tuple[Arriving, ...]

    def document(self) -> dict[str, Any]:
        """The object that `status --json` prints (DESIGN.md, Commands)."""
        worker = self.worker
        return {
            "worker": {
                "state": str(worker.state),
                "reason": worker.reason,
                "cooldown_left": round(worker.cooldown_left, 1),
                "heartbeat": _timestamp(worker.heartbeat),
            },
            "jobs": [job_document(job) for job in self.jobs],
            "arriving": [{"name": f.name, "bytes": f.size, "why": f.why} for f in self.arriving],
        }


def job_document(job: Job) -> dict[str, Any]:
    """One job as `status --json` shows it."""
    problem = None
    if job.problem is not None:
        problem = {"code": job.problem.code, "summary": job.problem.summary, "advice": job.problem.advice}
    elif job.filing_problem is not None:
        problem = {
            "code": "not_yet_filed",
            "summary": f"Delivered, but not yet filed: {job.filing_problem}.",
            "advice": "Mend the folder; it is filed by itself then.",
        }
    return {
        "id": job.id,
        "name": job.name,
        "status": str(job.status),
        "bytes": job.identity.size,
        "bytes_sent": bytes_sent(job),
        "sheets": job.sheets,
        "attempts": job.attempts,
        "upload_type": str(job.metadata.upload_type),
        "task_id": job.metadata.task_id,
        "path": os.fsencode(job.path).decode("utf-8", "backslashreplace"),
        "error": problem,
        "parts": [
            {
                "index": part.index,
                "sheets": part.sheets,
                "bytes": part.size,
                "status": str(part.status),
                "batch_id": part.batch_id,
            }
            for part in job.parts
        ],
    }


def bytes_sent(job: Job) -> int:
    """How many of the job's bytes the server has; never more than it has in all."""
    return min(job.identity.size, sum(part.bytes_sent for part in job.parts))


def _timestamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class FileView:
    """One file, for `explain`."""

    job: Job | None
    arriving: Arriving | None
    ahead: int
    """How many files go before it."""


class Views:
    """Reads a queue that a daemon may be working on."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def snapshot(self, *, everything: bool = False) -> Snapshot:
        """All unfinished jobs and the newest finished ones.

        Raises:
            Problem: ``queue_unusable``.
        """
        if not self._file.exists():
            return Snapshot(_stopped(), (), ())
        with self._connection() as connection:
            if connection is None:
                return Snapshot(_stopped(), (), ())
            row = connection.execute(select(workers).order_by(workers.c.heartbeat.desc()).limit(1)).first()
            open_jobs = read_jobs(connection, jobs.c.status.in_((Status.PENDING, *ACTIVE)))
            finished = read_jobs(
                connection,
                jobs.c.status.in_(FINAL),
                jobs.c.hidden.is_(False),
                order=(jobs.c.finished_at.desc(), jobs.c.id.desc()),
                limit=None if everything else RECENT,
            )
            seen = tuple(
                Arriving(r.name, r.size, r.why)
                for r in connection.execute(select(arriving).order_by(arriving.c.name))
            )
        return Snapshot(self._worker(row), tuple(sorted([*finished, *open_jobs], key=_by_id)), seen)

    def finished(self, since: float = 0.0) -> list[Job]:
        """Jobs that ended at or after ``since`` (seconds since the epoch), oldest first."""
        if not self._file.exists():
            return []
        with self._connection() as connection:
            if connection is None:
                return []
            return read_jobs(
                connection,
                jobs.c.finished_at >= since,
                jobs.c.status.in_(FINAL),
                order=(jobs.c.finished_at, jobs.c.id),
            )

    def delivered(self, fingerprint: str) -> Job | None:
        """The latest job whose every sheet became part of a batch, and whose content this is."""
        if not self._file.exists():
            return None
        with self._connection() as connection:
            if connection is None:
                return None
            found = read_jobs(
                connection,
                jobs.c.fingerprint == fingerprint,
                jobs.c.delivered_at.is_not(None),
                order=(jobs.c.delivered_at.desc(),),
                limit=1,
            )
            return found[0] if found else None

    def about(self, path: bytes) -> FileView:
        """All that the queue knows of the file that is, or was, at ``path``."""
        nothing = FileView(None, None, 0)
        if not self._file.exists():
            return nothing
        with self._connection() as connection:
            if connection is None:
                return nothing
            here = read_jobs(connection, jobs.c.path == path, order=(jobs.c.id.desc(),), limit=1)
            job = here[0] if here else None
            seen = connection.execute(select(arriving).where(arriving.c.path == path)).first()
            ahead = 0
            if job is not None and job.status is Status.PENDING:
                ahead = connection.execute(
                    select(func.count())
                    .select_from(jobs)
                    .where(jobs.c.status.in_((Status.PENDING, *ACTIVE)), jobs.c.id < job.id)
                ).scalar_one()
            return FileView(job, None if seen is None else Arriving(seen.name, seen.size, seen.why), ahead)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        engine = open_database(self._file, create=False)
        try:
            if schema_version(engine) is None:
                yield None
                return
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def _worker(self, row: Row[Any] | None) -> WorkerView:
        now = self._clock.now()
        if row is None or not is_alive(row, now):
            return _stopped(None if row is None else row.heartbeat)
        left = max(0.0, (row.cooldown_until or 0.0) - now)
        # a quiet daemon writes nothing: one on this machine is known to live by its process
        heartbeat = now if is_here(row) else row.heartbeat
        return WorkerView(WorkerState(row.state), row.reason, left, heartbeat, row.rate, row.since)


def _stopped(heartbeat: float | None = None) -> WorkerView:
    return WorkerView(WorkerState.STOPPED, None, 0.0, heartbeat, None, None)


def _by_id(job: Job) -> int:
    return job.id
