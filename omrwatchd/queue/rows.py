"""The model's values as columns, and jobs read with their parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select

from omrwatchd.errors import Problem
from omrwatchd.model import Job, NewJob, Part
from omrwatchd.queue.schema import jobs, parts
from omrwatchd.queue.values import job_of, part_of


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


_PARTS = (
    select(parts)
    .where(parts.c.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(parts.c.job_id, parts.c.index)
)


def jobs_where(*where: ColumnElement[bool]) -> Select[Any]:
    """A question for jobs, by id, that ``read`` asks: made once where it is asked again and again.

    To put one together costs as much as to ask it.
    """
    return select(jobs).where(*where).order_by(jobs.c.id)


def read(connection: Connection, question: Select[Any], **parameters: Any) -> list[Job]:
    """The jobs that are the answer, with their parts, in its order."""
    rows = connection.execute(question, parameters).all()
    found = _parts_of(connection, [row.id for row in rows])
    return [job_of(row._mapping, tuple(found.get(row.id, ()))) for row in rows]


def read_jobs(
    connection: Connection, *where: ColumnElement[bool], order: Any = None, limit: int | None = None
) -> list[Job]:
    """Jobs with their parts, in the given order (default: by id)."""
    question = jobs_where(*where)
    if order is not None:
        question = question.order_by(None).order_by(*order)
    return read(connection, question if limit is None else question.limit(limit))


def _parts_of(connection: Connection, ids: list[int]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for batch in _batches(ids, 500):  # SQLite takes a limited number of parameters
        for row in connection.execute(_PARTS, {"ids": batch}):
            found.setdefault(row.job_id, []).append(part_of(row._mapping))
    return found


def _batches(ids: list[int], size: int) -> Iterable[list[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
