"""The summary log: one JSON line a file, once, on disk before it counts."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omrwatchd.model import Job

_TAIL_BYTES = 256 * 1024


def line_of(job: Job) -> dict[str, Any]:
    """What the record says of a job: bytes, counts, ids, times (RFC 3339, UTC) and the rate in bytes/s."""
    seconds = None
    if job.started_at is not None and job.delivered_at is not None:
        seconds = round(max(0.0, job.delivered_at - job.started_at), 3)
    return {
        "id": job.id,
        "name": job.name,
        "status": str(job.status),
        "bytes": job.identity.size,
        "sheets": job.sheets,
        "upload_type": str(job.metadata.upload_type),
        "task_id": job.metadata.task_id,
        "batch_ids": list(job.batch_ids),
        "attempts": job.attempts,
        "error": None if job.problem is None else {"code": job.problem.code, "summary": job.problem.summary},
        "path": os.fsencode(job.path).decode("utf-8", "backslashreplace"),
        "queued": timestamp(job.created_at),
        "started": timestamp(job.started_at),
        "delivered": timestamp(job.delivered_at),
        "finished": timestamp(job.finished_at),
        "upload_seconds": seconds,
        "bytes_per_second": round(job.identity.size / seconds) if seconds else None,
    }


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SummaryLog:
    """Appends lines; opened anew for each, so that logrotate may rename the file at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, job: Job) -> None:
        """Append the job's line and bring it to disk; OSError when that fails, with nothing half-written.

        After a start the end of the log is looked through first: the line may have been written just
        before the end, and its confirmation in the queue lost.
        """
        line = json.dumps(line_of(job), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
            if line in tail:
                return
            _append(descriptor, size, line if not tail or tail.endswith(b"\n") else b"\n" + line)
        finally:
            os.close(descriptor)


def _append(descriptor: int, size: int, line: bytes) -> None:
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError("the disk is full")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
