"""The queue's rules for jobs: admitted once, claimed once, every change of state guarded.

Each method is one transaction, committed when it returns. Nothing here does I/O of another kind.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.model import (
    ACTIVE,
    FINAL,
    OUTCOME_UNKNOWN,
    Arriving,
    Identity,
    IllegalMove,
    Job,
    NewJob,
    Status,
    check_move,
)
from omrwatchd.queue.database import Changes
from omrwatchd.queue.process import is_alive
from omrwatchd.queue.rows import job_columns, jobs_where, problem_columns, read, read_jobs
from omrwatchd.queue.schema import arriving, jobs, parts, workers


class AlreadyQueued(Exception):
    """The path has an open row: one file, one job, until it is filed."""


RESET = Problem(
    "reset",
    "An operator took it off the waiting list; it stays where it is.",
    "`omrwatchd retry` queues it again, as does a change of the file.",
)
"""Such a job's row stays open, which keeps intake from taking the file again."""
_TO_BE_FILED = and_(
    jobs.c.filed_at.is_(None), or_(jobs.c.error_code.is_(None), jobs.c.error_code != RESET.code)
)

# what is asked at every look and at every turn
_WAITING = select(func.count()).select_from(jobs).where(jobs.c.status == Status.PENDING)
_OPEN_PATHS = select(jobs.c.path).where(jobs.c.filed_at.is_(None))
_WAITING_FILES = select(
    jobs.c.id, jobs.c.path, jobs.c.size, jobs.c.mtime_ns, jobs.c.inode, jobs.c.status
).where(
    jobs.c.filed_at.is_(None),
    or_(jobs.c.status == Status.PENDING, jobs.c.error_code == RESET.code),
    jobs.c.watch == bindparam("watch_name"),
    jobs.c.delivered_at.is_(None),
)
_NEXT = (
    select(jobs.c.id)
    .where(jobs.c.status == Status.PENDING, jobs.c.watch.not_in(bindparam("without", expanding=True)))
    .order_by(jobs.c.priority, jobs.c.started_at.is_(None), jobs.c.id)
    .limit(1)
)
_JOB = jobs_where(jobs.c.id == bindparam("job_id"))
_UNFILED = jobs_where(_TO_BE_FILED, jobs.c.status.in_(FINAL))
_FILED_UNSUMMARISED = jobs_where(jobs.c.filed_at.is_not(None), jobs.c.summary_at.is_(None))
_RESET_UNSUMMARISED = jobs_where(
    jobs.c.filed_at.is_(None), jobs.c.error_code == RESET.code, jobs.c.summary_at.is_(None)
)
_CANCELLED_MEANWHILE = jobs_where(jobs.c.status == Status.PENDING, jobs.c.cancel_requested)
_CANCEL_REQUESTED = select(jobs.c.cancel_requested).where(jobs.c.id == bindparam("job_id"))
_BUSY = select(jobs.c.id).where(_TO_BE_FILED).limit(1)


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file in a drop folder that has a row, and of which nothing is delivered yet."""

    id: int
    path: bytes
    identity: Identity
    was_reset: bool = False


def duplicate(name: str, earlier: Job) -> Problem:
    """What is said of a content that was delivered before."""
    return Problem(
        "duplicate",
        f"{name} was delivered before, as {earlier.name} (batch {', '.join(earlier.batch_ids)}).",
        "Nothing is owed if it is the same exam; else scan it again.",
    )


def copy_of_unfinished(name: str, earlier: Job) -> Problem:
    """What is said of a copy of what failed, and is, or may be, on the server in part or whole."""
    if earlier.in_doubt:
        summary = f"{name} has the content of {earlier.name}, which may be on the server already."
        advice = "Look on the server whether its batch is there; if it is not, drop one of the two again."
    else:
        parts = f"{len(earlier.batch_ids)} of {len(earlier.parts)} parts"
        batches = ", ".join(earlier.batch_ids)
        summary = (
            f"{name} has the content of {earlier.name}, of which {parts} are delivered (batch {batches})."
        )
        advice = f"`omrwatchd retry {earlier.id}` sends what is missing."
    return Problem("duplicate", summary, advice)


def gone(job: Job) -> Problem:
    """What is said of a file that was taken away while it waited."""
    if job.in_doubt:
        summary = (
            f"{job.name} was removed while the server's last answer was awaited, so the batch may exist."
        )
        return Problem(
            OUTCOME_UNKNOWN, summary, "Look on the server; drop the file again if it is not there."
        )
    summary = f"{job.name} was removed before it was delivered."
    return Problem("file_gone", summary, "Drop it again if it should be delivered.")


class Store:
    """The jobs. Safe to use from several threads and processes at once."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._reader = engine
        self._writer = engine.execution_options(writes=True)
        self._clock = clock
        self._changes: list[Changes] = []

    def changes(self) -> Changes:
        """For one that waits for a change of the queue; it lasts until the store is closed."""
        self._changes.append(Changes(self._reader))
        return self._changes[-1]

    def close(self) -> None:
        """When nobody waits any more: each reload would leave its connections open."""
        while self._changes:
            self._changes.pop().close()

    # what intake puts in

    def waiting(self) -> int:
        """How many jobs wait to be delivered; `queue.max_files` limits them."""
        with self._reader.begin() as connection:
            return int(connection.execute(_WAITING).scalar_one())

    def open_paths(self) -> frozenset[bytes]:
        """The files that have a row and are not filed yet."""
        with self._reader.begin() as connection:
            return frozenset(connection.execute(_OPEN_PATHS).scalars())

    def waiting_files(self, watch: str, folder: bytes) -> list[WaitingFile]:
        """The queued files below a drop folder that wait for their turn, or were taken off the list."""
        with self._reader.begin() as connection:
            return [
                WaitingFile(
                    row.id,
                    row.path,
                    Identity(row.size, row.mtime_ns, int(row.inode)),
                    row.status != Status.PENDING,
                )
                for row in connection.execute(_WAITING_FILES, {"watch_name": watch})
                if row.path.startswith(folder + b"/")
            ]

    def admit(self, job: NewJob, *, once: bool = False) -> int:
        """Queue a finished file; its id.

        Args:
            once: not content that was delivered before. What is delivered after this returns is found by
                ``delivered_before`` with the job's ``created_at``: between the two there is no gap.

        Raises:
            AlreadyQueued: the path has an open row.
            Problem: ``duplicate``, naming the earlier batch.
        """
        return self._insert(job, Status.PENDING, None, once)

    def refuse(self, job: NewJob, problem: Problem) -> int:
        """Record a file that can't be delivered; the worker files it under failed/. Its id.

        Raises:
            AlreadyQueued: the path has an open row.
        """
        return self._insert(job, Status.ERROR, problem)

    def _insert(self, job: NewJob, status: Status, problem: Problem | None, once: bool = False) -> int:
        now = self._clock.now()
        row = job_columns(job) | problem_columns(problem)
        row |= {"status": status, "created_at": now, "finished_at": now if status in FINAL else None}
        try:
            with self._writer.begin() as connection:
                # here and not before: a delivery that is being committed at this moment counts
                if once and job.fingerprint and (earlier := _delivered(connection, job.fingerprint)):
                    raise duplicate(job.name, earlier)
                connection.execute(delete(arriving).where(arriving.c.path == job.path))
                job_id = int(connection.execute(insert(jobs).values(row).returning(jobs.c.id)).scalar_one())
                for index, part in enumerate(job.parts):
                    connection.execute(
                        insert(parts).values(
                            job_id=job_id,
                            index=index,
                            name=part.name,
                            sheets=part.sheets,
                            size=part.size,
                            whole=part.whole,
                            first_sheet=part.first_sheet,
                            stop_sheet=part.stop_sheet,
                            status=status,
                        )
                    )
        except IntegrityError as error:
            raise AlreadyQueued(job.name) from error
        return job_id

    def delivered_before(self, fingerprint: str, since: float = 0.0) -> Job | None:
        """The latest delivered job of the same content, whatever its name was.

        ``since`` (seconds since the epoch) leaves out what was delivered before that.
        """
        with self._reader.begin() as connection:
            return _delivered(connection, fingerprint, since)

    def unfinished_before(self, fingerprint: str, since: float) -> Job | None:
        """The latest job of the same content that ended since then undelivered, and may have made a batch."""
        with self._reader.begin() as connection:
            found = read_jobs(
                connection,
                jobs.c.fingerprint == fingerprint,
                jobs.c.status.in_((Status.ERROR, Status.ABORTED)),
                jobs.c.finished_at >= since,
                order=(jobs.c.finished_at.desc(),),
            )
        return next((job for job in found if job.in_doubt or job.batch_ids), None)

    def set_arriving(self, files: dict[bytes, Arriving]) -> None:
        """Replace the list of files that are seen but not queued, by path; writes only what differs."""
        with self._reader.begin() as connection:
            known = {
                row.path: Arriving(row.name, row.size, row.why)
                for row in connection.execute(select(arriving))
            }
        changed = [path for path, file in files.items() if known.get(path) != file]
        absent = [path for path in known if path not in files or known[path] != files[path]]
        if not absent and not changed:
            return
        with self._writer.begin() as connection:
            if absent:
                statement = delete(arriving).where(arriving.c.path == bindparam("old"))
                connection.execute(statement, [{"old": path} for path in absent])
            rows = [
                {"path": path, "name": files[path].name, "size": files[path].size, "why": files[path].why}
                for path in changed
            ]
            if rows:
                connection.execute(insert(arriving), rows)

    # what delivery takes out

    def job(self, job_id: int) -> Job:
        """Raises KeyError when there is none."""
        with self._reader.begin() as connection:
            found = read(connection, _JOB, job_id=job_id)
        if not found:
            raise KeyError(job_id)
        return found[0]

    def claim(self, worker: str, *, without: Collection[str] = ()) -> Job | None:
        """Take the next waiting job for ``worker``: begun ones first, then the oldest.

        ``without``: watches whose jobs have to wait.
        """
        while True:
            with suppress(IllegalMove), self._writer.begin() as connection:
                oldest = connection.execute(_NEXT, {"without": list(without)}).scalar()
                return None if oldest is None else self._claim(connection, oldest, worker)
            # another worker was quicker, on a database that lets two of them look at once

    def _claim(self, connection: Connection, oldest: int, worker: str) -> Job:
        self._move(
            connection,
            oldest,
            Status.PENDING,
            Status.UPLOADING,
            worker=worker,
            started_at=func.coalesce(jobs.c.started_at, self._clock.now()),
            attempts=jobs.c.attempts + 1,
        )
        return read(connection, _JOB, job_id=oldest)[0]

    def move(self, job_id: int, old: Status, new: Status, **columns: Any) -> None:
        """Change a job's status, with other columns, in one guarded update.

        Raises:
            IllegalMove: MOVES does not know it, or the row is not in ``old`` any more.
        """
        with self._writer.begin() as connection:
            self._move(connection, job_id, old, new, **columns)

    def _move(self, connection: Connection, job_id: int, old: Status, new: Status, **columns: Any) -> None:
        check_move(old, new)
        if new in FINAL:
            columns.setdefault("finished_at", self._clock.now())
        if new not in ACTIVE:
            columns["worker"] = None
        done = connection.execute(
            update(jobs).where(jobs.c.id == job_id, jobs.c.status == old).values(status=new, **columns)
        )
        if done.rowcount != 1:
            raise IllegalMove(f"job {job_id} is not {old} any more")

    def note(self, job_id: int, **columns: Any) -> None:
        """Set columns of a job that are no state."""
        with self._writer.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**columns))

    def end(self, job: Job, new: Status, problem: Problem) -> None:
        """End a job as error or aborted; its parts that have no batch end with it."""
        with self._writer.begin() as connection:
            self._move(connection, job.id, job.status, new, **problem_columns(problem))
            connection.execute(
                update(parts).where(parts.c.job_id == job.id, parts.c.batch_id.is_(None)).values(status=new)
            )

    def give_back(self, job: Job, *, attempted: bool) -> None:
        """Return an active job to the queue, acknowledged chunks kept; uncounted unless ``attempted``."""
        columns: dict[str, Any] = (
            {"failures": jobs.c.failures + 1} if attempted else {"attempts": jobs.c.attempts - 1}
        )
        with self._writer.begin() as connection:
            self._move(connection, job.id, job.status, Status.PENDING, **columns)
            connection.execute(
                update(parts)
                .where(parts.c.job_id == job.id, parts.c.status == Status.UPLOADING)
                .values(status=Status.PENDING)
            )

    def release_abandoned(self, worker: str) -> list[int]:
        """At the start of ``worker``: its active jobs and those without a lease wait again. Their ids.

        A lease runs out with its daemon (process.is_alive).
        """
        now = self._clock.now()
        active = select(jobs.c.id.label("job"), jobs.c.worker, workers).outerjoin_from(
            jobs, workers, workers.c.id == jobs.c.worker
        )
        with self._writer.begin() as connection:
            rows = connection.execute(active.where(jobs.c.status.in_(ACTIVE))).all()
            found = [
                row.job
                for row in rows
                if row.worker in (None, worker) or row.host is None or not is_alive(row._mapping, now)
            ]
            for job_id in found:
                connection.execute(
                    update(jobs).where(jobs.c.id == job_id).values(status=Status.PENDING, worker=None)
                )
                connection.execute(
                    update(parts)
                    .where(parts.c.job_id == job_id, parts.c.status == Status.UPLOADING)
                    .values(status=Status.PENDING)
                )
            return found

    def withdraw(self, job: Job) -> None:
        """Forget a job whose file changed before anything of it became a batch: intake takes it anew.

        Raises:
            IllegalMove: the row is not as ``job`` has it any more.
        """
        with self._writer.begin() as connection:
            done = connection.execute(delete(jobs).where(jobs.c.id == job.id, jobs.c.status == job.status))
            if done.rowcount != 1:
                raise IllegalMove(f"job {job.id} is not {job.status} any more")

    def unfiled(self) -> list[Job]:
        """Jobs that have ended and whose file still is where it was."""
        with self._reader.begin() as connection:
            return read(connection, _UNFILED)

    def let_go(self, job_id: int) -> None:
        """A file that was taken off the waiting list is gone or another one: its row is closed."""
        self.note(job_id, filed_at=self._clock.now())

    def filed(self, job: Job, path: bytes) -> None:
        """The file is at ``path`` now; a delivered job is completed by it, in the same transaction.

        One that an operator has queued again meanwhile goes on from there: it is filed when it ends anew.
        """
        columns = {"path": path, "filed_at": self._clock.now(), "filing_problem": None}
        if job.status not in FINAL:
            self.move(job.id, job.status, Status.COMPLETED, **columns)
        elif not self._note_ended(job, **columns):
            self.note(job.id, path=path, filing_target=None)

    def summarised(self, job: Job) -> None:
        """Its line is in the summary log; should it be queued again meanwhile, its next end gets its own."""
        self._note_ended(job, summary_at=self._clock.now())

    def _note_ended(self, job: Job, **columns: Any) -> bool:
        """Set columns of a job that has ended, if it still is the end that ``job`` tells of."""
        with self._writer.begin() as connection:
            done = connection.execute(
                update(jobs).where(jobs.c.id == job.id, jobs.c.status == job.status).values(**columns)
            )
        return bool(done.rowcount == 1)

    def unsummarised(self) -> list[Job]:
        """Ended jobs whose line in the summary log is owed: filed, or to stay where they are."""
        with self._reader.begin() as connection:
            return [*read(connection, _FILED_UNSUMMARISED), *read(connection, _RESET_UNSUMMARISED)]

    def cancelled_meanwhile(self) -> list[Job]:
        """Jobs that an operator cancelled under way, and that went back to the queue before it was heard."""
        with self._reader.begin() as connection:
            return read(connection, _CANCELLED_MEANWHILE)

    def cancel_requested(self, job_id: int) -> bool:
        with self._reader.begin() as connection:
            return bool(connection.execute(_CANCEL_REQUESTED, {"job_id": job_id}).scalar())

    def busy(self) -> bool:
        """Whether anything is left to deliver or to file: what is not delivered is not filed either."""
        with self._reader.begin() as connection:
            return connection.execute(_BUSY).first() is not None


def _delivered(connection: Connection, fingerprint: str, since: float = 0.0) -> Job | None:
    found = read_jobs(
        connection,
        jobs.c.fingerprint == fingerprint,
        jobs.c.delivered_at >= since,
        order=(jobs.c.delivered_at.desc(),),
        limit=1,
    )
    return found[0] if found else None
