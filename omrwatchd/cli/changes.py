"""`status --watch` into a pipe: a line for each change, with its time."""

from __future__ import annotations

from omrwatchd.cli.pace import duration, files_left
from omrwatchd.cli.rows import clean, counted, size
from omrwatchd.model import FINAL, Job, Status, WorkerState
from omrwatchd.queue.views import Overview, bytes_sent

STEPS = 5
"""Lines that an upload is worth, each a fifth."""


class Changes:
    """What was told, so that it is not told again."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._told: dict[object, str] = {}

    def lines(self, overview: Overview) -> list[str]:
        """What is new since the last call."""
        found: dict[object, str] = {"worker": _of_worker(overview)}
        if not self._told and overview.backlog.files:
            found["queue"] = (
                f"{counted(files_left(overview), 'file')} to go, {size(overview.backlog.size)} wait"
            )
        ended = [job for job in reversed(overview.ended) if (job.finished_at or 0.0) >= self._began]
        waiting = [job for job in overview.waiting if job.created_at >= self._began]
        for job in (*ended, *overview.active, *waiting):
            found[job.id] = _of_job(job)
        for file in overview.arriving:
            found[file.name] = f"arriving {clean(file.name)}: {clean(file.why)}"
        new = [words for key, words in found.items() if self._told.get(key) != words]
        self._told = found
        return new


def _of_worker(overview: Overview) -> str:
    worker = overview.worker
    words = f"omrwatchd {worker.state}"
    if worker.state is WorkerState.COOLDOWN:
        return f"{words} before the next upload"
    return f"{words}: {clean(worker.reason)}" if worker.reason else words


def _of_job(job: Job) -> str:
    about = f"id {job.id}, {counted(job.sheets, 'sheet')}, {size(job.identity.size)}"
    words = f"{job.status} {clean(job.name)} ({about})"
    if job.status is Status.UPLOADING:
        share = bytes_sent(job) / max(1, job.identity.size)
        return f"{words} {int(share * STEPS) * 100 // STEPS} %"
    if job.status not in FINAL:
        return words
    if job.problem is not None:
        return f"{words}: {clean(job.problem.sentence())}"
    if job.started_at is not None and job.delivered_at is not None:
        words += f" in {duration(max(0.0, job.delivered_at - job.started_at))}"
    return f"{words}: batch {clean(', '.join(job.batch_ids))}"
