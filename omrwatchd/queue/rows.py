"""The model's values as columns, and jobs read with their parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select

from omrwatchd.errors import Problem
from omrwatchd.model import Job, NewJob, Part
from omrwatchd.queue.schema import jobs, parts
from omrwatchd.queue.values import job_of, part_of

_BY_ID = (jobs.c.id,)
_PARTS = (
    select(parts)
    .where(parts.c.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(parts.c.job_id, parts.c.index)
)


def job_columns(job: NewJob) -> dict[str, Any]:
    """What a new row of `jobs` says about the file."""
    return {
        "path": job.path,
        "name": job.name,
        "watch": job.watch,
        "size": job.identity.size,
        "mtime_ns": job.identity.mtime_ns,
        "inode": str(job.identity.inode),
        "upload_type": str(job.metadata.upload_type),
        "task_id": job.metadata.task_id,
        "notes": job.metadata.notes,
        "profile_id": job.metadata.profile_id,
        "sheets": job.sheets,
        "fingerprint": job.fingerprint,
    }


def problem_columns(problem: Problem | None) -> dict[str, str | None]:
    if problem is None:
        return {"error_code": None, "error_summary": None, "error_advice": None}
    return {
        "error_code": problem.code,
        "error_summary": problem.summary,
        "error_advice": problem.advice,
    }


def jobs_where(
    *where: ColumnElement[bool], order: Iterable[ColumnElement[Any]] = _BY_ID, limit: int | None = None
) -> Select[Any]:
    """A question for jobs, which ``read`` asks; made once where it is asked again and again.

    To put one together costs as much as to ask it.
    """
    return select(jobs).where(*where).order_by(*order).limit(limit)


def read(connection: Connection, question: Select[Any], **parameters: Any) -> list[Job]:
    """The jobs that are the answer, with their parts, in its order."""
    rows = connection.execute(question, parameters).all()
    found = _parts_of(connection, [row.id for row in rows])
    return [job_of(row._mapping, tuple(found.get(row.id, ()))) for row in rows]


def read_jobs(
    connection: Connection,
    *where: ColumnElement[bool],
    order: Iterable[ColumnElement[Any]] = _BY_ID,
    limit: int | None = None,
) -> list[Job]:
    """What is asked now and then: put together and read at once."""
    return read(connection, jobs_where(*where, order=order, limit=limit))


def _parts_of(connection: Connection, ids: list[int]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for batch in _batches(ids, 500):  # SQLite takes a limited number of parameters
        for row in connection.execute(_PARTS, {"ids": batch}):
            found.setdefault(row.job_id, []).append(part_of(row._mapping))
    return found


def _batches(ids: list[int], size: int) -> Iterable[list[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
