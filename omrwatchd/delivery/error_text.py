"""`NAME.zip.error.txt` beside a failed file: what, why, what to do, the id."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime

from omrwatchd.delivery.moving import NAME_MAX, cut, open_anew
from omrwatchd.model import Job, Status

ERROR_SUFFIX = b".error.txt"


def remove_error_text(path: bytes) -> None:
    """Our own text about a failure that a retry has mended."""
    if len(os.path.basename(path) + ERROR_SUFFIX) > NAME_MAX:
        return  # nothing can have that name: such a file was filed under a shorter one
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ERROR_SUFFIX)


def write_error_text(job: Job, target: bytes, now: float) -> None:
    """`NAME.zip.error.txt` beside a failed file: what, why, what to do, the id."""
    if job.problem is None or not os.path.isdir(os.path.dirname(target)) or not os.path.lexists(target):
        return
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    headline = "was cancelled" if job.status is Status.ABORTED else "was not delivered"
    lines = [f"{job.name} {headline}.", "", job.problem.summary]
    if job.problem.advice:
        lines += ["", f"What to do: {job.problem.advice}"]
    if job.batch_ids:
        lines += ["", f"Already delivered as batch: {', '.join(job.batch_ids)}"]
    lines += ["", f"Id: {job.id}   Code: {job.problem.code}   Time: {when}", ""]
    path = target + ERROR_SUFFIX
    partial = os.path.join(os.path.dirname(path), b"." + cut(os.path.basename(path), NAME_MAX - 5) + b".tmp")
    with open_anew(partial) as file:
        file.write("\n".join(lines).encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
