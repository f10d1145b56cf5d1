"""What people and programs read of the queue, from outside the daemon; never writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omrwatchd.clock import Clock
from omrwatchd.model import Arriving, Job, Status, WorkerState, display_name
from omrwatchd.queue.glance import Glance, glance
from omrwatchd.queue.process import is_alive, is_here

RECENT = 20
"""Finished jobs that `status` shows."""

# Each is answered from an index, whatever the history (a test reads the plans). What is listed as ended has
# a finished_at, which no unfinished job has.
_ACTIVE = "WHERE status IN ('processing', 'uploading')"
_WAITING = "WHERE status = 'pending' ORDER BY priority, started_at IS NULL, id"
_NEWEST = "WHERE finished_at IS NOT NULL AND NOT hidden ORDER BY finished_at DESC, id DESC LIMIT :limit"
_ENDED_SINCE = "WHERE finished_at >= :since ORDER BY finished_at, id"
_DELIVERED = (
    "WHERE fingerprint = :fingerprint AND delivered_at IS NOT NULL ORDER BY delivered_at DESC LIMIT 1"
)
_KNOWN = (
    "WHERE fingerprint = :fingerprint ORDER BY status = 'completed' DESC, delivered_at DESC, id DESC LIMIT 1"
)
_BACKLOG = """SELECT count(*), total(size), total(
    CASE WHEN started_at IS NULL THEN 0 ELSE (SELECT total(bytes_sent) FROM parts WHERE job_id = jobs.id) END
) FROM jobs WHERE status = 'pending'"""
_ENDED_AMOUNT = "SELECT count(*), total(size), total(size) FROM jobs WHERE finished_at >= :since"
# '0' is the byte behind '/'
_ARRIVING_BELOW = (
    "SELECT path, name, size, why FROM arriving WHERE path > :start AND path < :stop ORDER BY path"
)
# in the order in which they are claimed
_AHEAD = """SELECT (
        SELECT count(*)
        FROM jobs, (SELECT priority, started_at IS NULL AS fresh, id FROM jobs WHERE id = :id) AS it
        WHERE status = 'pending'
        AND (jobs.priority, jobs.started_at IS NULL, jobs.id) < (it.priority, it.fresh, it.id)
    ) + (SELECT count(*) FROM jobs WHERE status IN ('processing', 'uploading'))"""
_AT = "WHERE path = :path ORDER BY id DESC LIMIT 1"
_FILED_AS = "WHERE path > :start AND path < :stop AND name = :name ORDER BY id DESC LIMIT 1"


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
    paused: bool = False
    """By an operator; it goes on with what is under way, and may be held besides."""


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


@dataclass(frozen=True, slots=True)
class Amount:
    """Files and their bytes."""

    files: int
    size: int
    """Bytes."""
    sent: int
    """Bytes that the server has."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What a live picture shows: not every file, but how many there are."""

    worker: WorkerView
    active: tuple[Job, ...]
    waiting: tuple[Job, ...]
    """The next ones, in turn."""
    backlog: Amount
    """All that wait."""
    ended: tuple[Job, ...]
    """The newest, newest first."""
    ended_since: Amount
    arriving: tuple[Arriving, ...]


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
        """The newest finished jobs, oldest first; then what is under way, and all that wait, in turn.

        Raises:
            Problem: ``queue_unusable``.
        """
        with glance(self._file) as queue:
            if queue is None:
                return Snapshot(_stopped(), (), ())
            newest = {"limit": -1 if everything else RECENT}
            ended = queue.jobs(_NEWEST, newest)
            unfinished = [*queue.jobs(_ACTIVE), *queue.jobs(_WAITING)]
            worker, seen = self._worker(queue), _arriving(queue)
        return Snapshot(worker, (*reversed(ended), *unfinished), seen)

    def overview(self, rows: int, since: float) -> Overview:
        """At most so many rows of each kind, and the sums; cheap enough for several times a second.

        ``since`` (seconds since the epoch) is where ``ended_since`` begins.
        """
        with glance(self._file) as queue:
            if queue is None:
                return Overview(_stopped(), (), (), Amount(0, 0, 0), (), Amount(0, 0, 0), ())
            return Overview(
                worker=self._worker(queue),
                active=tuple(queue.jobs(_ACTIVE)),
                waiting=tuple(queue.jobs(f"{_WAITING} LIMIT :limit", {"limit": rows})),
                backlog=Amount(*map(int, queue.rows(_BACKLOG)[0])),
                ended=tuple(queue.jobs(_NEWEST, {"limit": rows})),
                ended_since=Amount(*map(int, queue.rows(_ENDED_AMOUNT, {"since": since})[0])),
                arriving=_arriving(queue),
            )

    def arriving_below(self, folder: bytes) -> list[tuple[bytes, Arriving]]:
        """What is arriving in one drop folder, each with its path below it, in that order."""
        start = folder + b"/"
        with glance(self._file) as queue:
            found = (
                [] if queue is None else queue.rows(_ARRIVING_BELOW, {"start": start, "stop": folder + b"0"})
            )
        return [(row["path"][len(start) :], Arriving(row["name"], row["size"], row["why"])) for row in found]

    def finished(self, since: float = 0.0) -> list[Job]:
        """Jobs that ended at or after ``since`` (seconds since the epoch), oldest first."""
        with glance(self._file) as queue:
            return [] if queue is None else queue.jobs(_ENDED_SINCE, {"since": since})

    def delivered(self, fingerprint: str) -> Job | None:
        """The latest job whose every sheet became part of a batch, and whose content this is."""
        with glance(self._file) as queue:
            found = [] if queue is None else queue.jobs(_DELIVERED, {"fingerprint": fingerprint})
        return found[0] if found else None

    def known(self, fingerprint: str) -> Job | None:
        """The job that tells most of this content: the latest delivered one, else the latest."""
        with glance(self._file) as queue:
            found = [] if queue is None else queue.jobs(_KNOWN, {"fingerprint": fingerprint})
        return found[0] if found else None

    def about(self, path: bytes, filed_in: Sequence[bytes] = ()) -> FileView:
        """All that the queue knows of the file that is, or was, at ``path``.

        ``filed_in``: the folders that files from there end in, perhaps with a timestamp in their names.
        """
        with glance(self._file) as queue:
            if queue is None:
                return FileView(None, None, 0)
            job = next(iter(queue.jobs(_AT, {"path": path})), None) or _filed_from(queue, path, filed_in)
            seen = queue.rows("SELECT name, size, why FROM arriving WHERE path = :path", {"path": path})
            ahead = 0
            if job is not None and job.status is Status.PENDING:
                ahead = queue.rows(_AHEAD, {"id": job.id})[0][0]
        return FileView(job, next((Arriving(*row) for row in seen), None), ahead)

    def _worker(self, queue: Glance) -> WorkerView:
        rows = queue.rows("SELECT * FROM workers ORDER BY heartbeat DESC LIMIT 1")
        now = self._clock.now()
        if not rows:
            return _stopped()
        row = rows[0]
        if not is_alive(row, now):
            return _stopped(row["heartbeat"])
        left = max(0.0, (row["cooldown_until"] or 0.0) - now)
        # a quiet daemon writes nothing: one on this machine is known to live by its process
        heartbeat = now if is_here(row) else row["heartbeat"]
        state = WorkerState(row["state"])
        paused = bool(row["paused"])
        return WorkerView(state, row["reason"], left, heartbeat, row["rate"], row["since"], paused)


def _filed_from(queue: Glance, path: bytes, folders: Sequence[bytes]) -> Job | None:
    name = os.path.basename(path)
    found: list[Job] = []
    for folder in folders:
        start = os.path.join(folder, os.path.splitext(name)[0])
        values = {"start": start, "stop": start + b"\xff", "name": display_name(name)}
        found += queue.jobs(_FILED_AS, values)
    return max(found, key=lambda job: job.id, default=None)


def _arriving(queue: Glance) -> tuple[Arriving, ...]:
    return tuple(Arriving(*row) for row in queue.rows("SELECT name, size, why FROM arriving ORDER BY name"))


def _stopped(heartbeat: float | None = None) -> WorkerView:
    return WorkerView(WorkerState.STOPPED, None, 0.0, heartbeat, None, None)
