"""The queue in numbers, counted at one moment by the database; never writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from omrwatchd.clock import Clock
from omrwatchd.model import ACTIVE, Status, WorkerState
from omrwatchd.queue.database import open_database, schema_version, usable
from omrwatchd.queue.process import is_alive
from omrwatchd.queue.schema import arriving, jobs, workers

PATIENCE_SECONDS = 2.0
"""A lock is not waited for any longer: Prometheus gives up after 10 s."""
_OPEN = (Status.PENDING, *ACTIVE)


@dataclass(frozen=True, slots=True)
class Figures:
    """Times are seconds since the epoch, sizes bytes."""

    jobs: Mapping[Status, int]
    """Of those that the list shows; unfinished ones, all of them."""
    waiting_bytes: int
    """Of files that are not delivered yet."""
    oldest_waiting: float | None
    """When the oldest file that is not delivered yet was queued."""
    last_delivery: float | None
    unfiled: int
    """Files whose moving to done/ or failed/ has failed so far."""
    arriving: int
    arriving_bytes: int
    worker: WorkerState
    since: float | None
    """Since when the worker is in that state."""
    rate: float
    """Bytes a second; 0 while nothing is uploaded."""


def read_figures(file: Path, clock: Clock) -> Figures | None:
    """Count; None while there is no queue yet. Waits for nobody longer than PATIENCE_SECONDS.

    Raises:
        Problem: ``queue_unusable``: locked, damaged or gone.
    """
    if not os.path.exists(file):
        return None
    with usable(file):
        engine = open_database(file, create=False, patience=PATIENCE_SECONDS)
        try:
            if schema_version(engine) is None:
                return None
            with engine.begin() as connection:
                return _count(connection, clock.now())
        finally:
            engine.dispose()


def _count(connection: Connection, now: float) -> Figures:
    row = connection.execute(_of_jobs()).one()
    files, arriving_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(arriving.c.size), 0)).select_from(arriving)
    ).one()
    state, since, rate = _worker(connection, now)
    return Figures(
        jobs={status: int(row._mapping[status]) for status in Status},
        waiting_bytes=int(row.owed or 0),
        oldest_waiting=row.oldest,
        last_delivery=row.latest,
        unfiled=int(row.unfiled),
        arriving=int(files),
        arriving_bytes=int(arriving_bytes),
        worker=state,
        since=since,
        rate=rate,
    )


def _of_jobs() -> Any:
    """All that is counted of jobs, in one reading of the table; GROUP BY would sort it first."""
    is_open = jobs.c.status.in_(_OPEN)
    shown = or_(jobs.c.hidden.is_(False), is_open)
    owed = and_(is_open, jobs.c.delivered_at.is_(None))
    return select(
        *(func.count().filter(jobs.c.status == status, shown).label(status) for status in Status),
        func.sum(jobs.c.size).filter(owed).label("owed"),
        func.min(func.coalesce(jobs.c.retried_at, jobs.c.created_at)).filter(owed).label("oldest"),
        func.max(jobs.c.delivered_at).label("latest"),
        func.count().filter(jobs.c.filed_at.is_(None), jobs.c.filing_problem.is_not(None)).label("unfiled"),
    ).select_from(jobs)


def _worker(connection: Connection, now: float) -> tuple[WorkerState, float | None, float]:
    row: Row[Any] | None = connection.execute(
        select(workers).order_by(workers.c.heartbeat.desc()).limit(1)
    ).first()
    if row is None or not is_alive(row._mapping, now):
        return WorkerState.STOPPED, None, 0.0
    state = WorkerState(row.state)
    return state, row.since, float(row.rate or 0.0) if state is WorkerState.UPLOADING else 0.0
