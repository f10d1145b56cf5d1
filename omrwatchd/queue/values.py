"""Rows as values of the model, whoever read them."""

from __future__ import annotations

from typing import Any, Protocol

from omrwatchd.errors import Problem
from omrwatchd.model import Identity, Job, Metadata, Part, Status, UploadType


class Columns(Protocol):
    """A row, asked by the names of its columns."""

    def __getitem__(self, key: str, /) -> Any: ...


def part_of(row: Columns) -> Part:
    return Part(
        id=row["id"],
        job_id=row["job_id"],
        index=row["index"],
        name=row["name"],
        sheets=row["sheets"],
        size=row["size"],
        whole=bool(row["whole"]),
        first_sheet=row["first_sheet"],
        stop_sheet=row["stop_sheet"],
        status=Status(row["status"]),
        upload_id=row["upload_id"],
        chunk_size=row["chunk_size"],
        edge_chunk_size=row["edge_chunk_size"],
        sessions=row["sessions"],
        final_sent_at=row["final_sent_at"],
        batch_id=row["batch_id"],
        started_at=row["started_at"],
        bytes_sent=row["bytes_sent"],
    )


def job_of(row: Columns, its_parts: tuple[Part, ...]) -> Job:
    problem = None
    if row["error_code"] is not None:
        problem = Problem(row["error_code"], row["error_summary"] or "", row["error_advice"] or "")
    return Job(
        id=row["id"],
        path=row["path"],
        name=row["name"],
        watch=row["watch"],
        identity=Identity(row["size"], row["mtime_ns"], int(row["inode"])),
        metadata=Metadata(UploadType(row["upload_type"]), row["task_id"], row["notes"], row["profile_id"]),
        sheets=row["sheets"],
        fingerprint=row["fingerprint"],
        status=Status(row["status"]),
        attempts=row["attempts"],
        failures=row["failures"],
        problem=problem,
        created_at=row["created_at"],
        started_at=row["started_at"],
        delivered_at=row["delivered_at"],
        finished_at=row["finished_at"],
        filing_target=row["filing_target"],
        filing_problem=row["filing_problem"],
        filed_at=row["filed_at"],
        summary_at=row["summary_at"],
        cancel_requested=bool(row["cancel_requested"]),
        parts=its_parts,
    )
