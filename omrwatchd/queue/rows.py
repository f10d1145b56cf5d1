"""Rows as values of the model, and the model's values as columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from omrwatchd.errors import Problem
from omrwatchd.model import Identity, Job, Metadata, NewJob, Part, Status, UploadType
from omrwatchd.queue.schema import jobs, parts


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


def read_jobs(
    connection: Connection, *where: ColumnElement[bool], order: Any = None, limit: int | None = None
) -> list[Job]:
    """Jobs with their parts, in the given order (default: by id)."""
    statement = select(jobs).where(*where).order_by(*(order or (jobs.c.id,)))
    rows = connection.execute(statement if limit is None else statement.limit(limit)).all()
    found = _parts_of(connection, [row.id for row in rows])
    return [job_of(row, tuple(found.get(row.id, ()))) for row in rows]


def _parts_of(connection: Connection, ids: list[int]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for batch in _batches(ids, 500):  # SQLite takes a limited number of parameters
        statement = select(parts).where(parts.c.job_id.in_(batch)).order_by(parts.c.job_id, parts.c.index)
        for row in connection.execute(statement):
            found.setdefault(row.job_id, []).append(part_of(row))
    return found


def _batches(ids: list[int], size: int) -> Iterable[list[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def part_of(row: Row[Any]) -> Part:
    return Part(
        id=row.id,
        job_id=row.job_id,
        index=row._mapping["index"],  # row.index is the tuple's method
        name=row.name,
        sheets=row.sheets,
        size=row.size,
        whole=row.whole,
        first_sheet=row.first_sheet,
        stop_sheet=row.stop_sheet,
        status=Status(row.status),
        upload_id=row.upload_id,
        chunk_size=row.chunk_size,
        sessions=row.sessions,
        final_sent_at=row.final_sent_at,
        batch_id=row.batch_id,
        started_at=row.started_at,
        bytes_sent=row.bytes_sent,
    )


def job_of(row: Row[Any], its_parts: tuple[Part, ...]) -> Job:
    problem = None
    if row.error_code is not None:
        problem = Problem(row.error_code, row.error_summary or "", row.error_advice or "")
    return Job(
        id=row.id,
        path=row.path,
        name=row.name,
        watch=row.watch,
        identity=Identity(row.size, row.mtime_ns, int(row.inode)),
        metadata=Metadata(UploadType(row.upload_type), row.task_id, row.notes, row.profile_id),
        sheets=row.sheets,
        fingerprint=row.fingerprint,
        status=Status(row.status),
        attempts=row.attempts,
        failures=row.failures,
        problem=problem,
        created_at=row.created_at,
        started_at=row.started_at,
        delivered_at=row.delivered_at,
        finished_at=row.finished_at,
        filing_target=row.filing_target,
        filing_problem=row.filing_problem,
        filed_at=row.filed_at,
        summary_at=row.summary_at,
        cancel_requested=row.cancel_requested,
        parts=its_parts,
    )
