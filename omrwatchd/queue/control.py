"""Operators' words, as changes of rows that the daemon notices within a second.

They work with the daemon running or stopped; each is one transaction and says what it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, func, select, update

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.model import ACTIVE, FINAL, OUTCOME_UNKNOWN, Job, Status
from omrwatchd.queue.again import check_again
from omrwatchd.queue.database import open_database, usable
from omrwatchd.queue.process import is_alive
from omrwatchd.queue.rows import problem_columns, read_jobs
from omrwatchd.queue.schema import chunks, jobs, parts, workers
from omrwatchd.queue.store import RESET
from omrwatchd.queue.version import is_there

CANCELLED = Problem(
    "cancelled", "An operator cancelled it.", "`omrwatchd retry`, or dropping it again, delivers it."
)


_IDS = 1 << 63
"""SQLite's integers end there."""


def cancelled(job: Job) -> Problem:
    """What is said of a cancelled job; what became a batch stays one."""
    if job.in_doubt:
        return Problem(
            OUTCOME_UNKNOWN,
            "An operator cancelled it while the server's last answer was awaited, so the batch may exist.",
            "Look on the server whether the batch is there; if it is not, `omrwatchd retry --force`.",
        )
    if job.delivered_at is None:
        return CANCELLED
    return Problem(
        CANCELLED.code,
        f"An operator cancelled it while its processing was awaited; it is on the server as batch "
        f"{', '.join(job.batch_ids)}.",
        "Start its processing on the server, or `omrwatchd retry`.",
    )


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did, in words."""

    words: str


class Control:
    """The door for commands that change the queue."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._writer = engine.execution_options(writes=True)
        self._clock = clock

    def cancel(self, job_id: int) -> Done:
        """End a job that waits or is under way; what is under way ends within a second.

        Raises:
            Problem: ``unknown_id`` or ``not_now``.
        """
        with self._writer.begin() as connection:
            job = _job(connection, job_id)
            if job.status in ACTIVE:
                _set(connection, job_id, cancel_requested=True)
                when = "" if self._has_daemon(connection) else ", as soon as the daemon runs again"
                return Done(f"{job.name} is being cancelled{when}.")
            if job.status is not Status.PENDING:
                raise _not_now(job, "cancelled")
            _set(
                connection,
                job_id,
                status=Status.ABORTED,
                finished_at=self._clock.now(),
                **problem_columns(cancelled(job)),
            )
            connection.execute(
                update(parts)
                .where(parts.c.job_id == job_id, parts.c.batch_id.is_(None))
                .values(status=Status.ABORTED)
            )
            when = "" if self._has_daemon(connection) else " when the daemon is started"
        return Done(f"{job.name} is cancelled; it is put into the failed folder{when}.")

    def retry(self, job_id: int, *, force: bool = False) -> Done:
        """Queue a failed or cancelled job again; delivered parts are not sent again.

        Raises:
            Problem: ``unknown_id``, ``not_now``, or ``needs_force`` where a second batch may come of it.
        """
        with self._writer.begin() as connection:
            return self._retry(connection, _job(connection, job_id), force=force)

    def _retry(self, connection: Connection, job: Job, *, force: bool) -> Done:
        if job.status not in (Status.ERROR, Status.ABORTED):
            raise _not_now(job, "tried again")
        if job.parts:
            check_again(job, force=force)
        if not job.parts:
            advice = "Save it again, then drop it into the folder."
            raise Problem("not_now", f"{job.name} can't be tried again: it never was a usable ZIP.", advice)
        code = job.problem.code if job.problem is not None else ""
        if (job.in_doubt or code in (OUTCOME_UNKNOWN, "duplicate")) and not force:
            raise Problem(
                "needs_force",
                f"{job.name} may be on the server already ({job.problem.summary if job.problem else ''})",
                "Look there first; if the batch is missing, use --force.",
            )
        if self._is_queued(connection, job):
            raise Problem("not_now", f"{job.name} is queued already under another id.", "")
        _set(
            connection,
            job.id,
            status=Status.PENDING,
            failures=0,
            cancel_requested=False,
            finished_at=None,
            filed_at=None,
            filing_target=None,
            filing_problem=None,
            summary_at=None,
            retried_at=self._clock.now(),
            **problem_columns(None),
        )
        if force:  # what was delivered before this moment is known, and wanted once more
            _set(connection, job.id, created_at=self._clock.now())
        missing = [part.id for part in job.parts if part.batch_id is None]
        connection.execute(delete(chunks).where(chunks.c.part_id.in_(missing)))
        connection.execute(
            update(parts)
            .where(parts.c.id.in_(missing))
            .values(status=Status.PENDING, upload_id=None, chunk_size=None, sessions=0, final_sent_at=None)
        )
        return Done(f"{job.name} is queued again.")

    def _is_queued(self, connection: Connection, job: Job) -> bool:
        statement = select(jobs.c.id).where(
            jobs.c.path == job.path, jobs.c.filed_at.is_(None), jobs.c.id != job.id
        )
        return connection.execute(statement).first() is not None

    def retry_failed(self, *, force: bool = False) -> list[Done]:
        """Every failed job on the list that may be tried again without a second batch; all with ``force``."""
        with self._writer.begin() as connection:
            done = []
            for job in read_jobs(connection, jobs.c.status == Status.ERROR, jobs.c.hidden.is_(False)):
                try:
                    done.append(self._retry(connection, job, force=force))
                except Problem as problem:
                    done.append(Done(f"{job.name} is left: {problem.sentence()}"))
            return done

    def prioritise(self, job_id: int) -> Done:
        """Have a waiting job go next."""
        with self._writer.begin() as connection:
            job = _job(connection, job_id)
            if job.status is not Status.PENDING:
                raise _not_now(job, "moved up")
            first = connection.execute(
                select(func.min(jobs.c.priority)).where(jobs.c.status == Status.PENDING)
            ).scalar_one()
            _set(connection, job_id, priority=first - 1)
        return Done(f"{job.name} goes next.")

    def remove(self, job_id: int) -> Done:
        """Forget a finished job; its content stays known as delivered.

        Raises:
            Problem: ``unknown_id`` or ``not_now``.
        """
        with self._writer.begin() as connection:
            job = _job(connection, job_id)
            if _stays(job):
                raise _not_now(job, "removed", "Take the file out of the drop folder, or retry it.")
            if job.status not in FINAL or job.summary_at is None:
                raise _not_now(job, "removed", "Cancel it first.")
            _set(connection, job_id, hidden=True)
        return Done(f"{job.name} is removed from the list.")

    def clear(self) -> Done:
        """Forget all finished jobs; what was delivered stays known."""
        with self._writer.begin() as connection:
            done = connection.execute(
                update(jobs)
                .where(
                    jobs.c.status.in_(FINAL),
                    jobs.c.summary_at.is_not(None),
                    jobs.c.filed_at.is_not(None),
                    jobs.c.hidden.is_(False),
                )
                .values(hidden=True)
            )
        return Done(f"{_counted(done.rowcount, 'finished file')} cleared from the list.")

    def waiting(self) -> int:
        """How many files `reset` would take off the waiting list."""
        with self._writer.begin() as connection:
            return len(self._resettable(connection))

    def _resettable(self, connection: Connection) -> list[Job]:
        return [job for job in read_jobs(connection, jobs.c.status == Status.PENDING) if not job.batch_ids]

    def reset(self) -> Done:
        """Empty the waiting list. The files stay where they are, and are left alone until they change."""
        with self._writer.begin() as connection:
            found = self._resettable(connection)
            for job in found:
                _set(
                    connection,
                    job.id,
                    status=Status.ABORTED,
                    finished_at=self._clock.now(),
                    **problem_columns(RESET),
                )
                connection.execute(
                    update(parts).where(parts.c.job_id == job.id).values(status=Status.ABORTED)
                )
        if not found:
            return Done("No file waits; nothing is taken off the list.")
        stay = "it stays" if len(found) == 1 else "they stay"
        words = f"{_counted(len(found), 'file')} taken off the waiting list; {stay} in the drop folder."
        return Done(words)

    def pause(self, paused: bool) -> Done:
        """Begin nothing new (what is under way goes on), or go on; also ends a hold and a cooldown."""
        with self._writer.begin() as connection:
            columns = {"paused": paused} if paused else {
                "paused": False, "cooldown_until": None, "release": True,
            }  # fmt: skip
            done = connection.execute(update(workers).values(**columns))
            runs = self._has_daemon(connection)
        if done.rowcount == 0:
            raise Problem("not_now", "There is no queue yet.", "Start the daemon once.")
        if paused:
            return Done("Paused: nothing new is begun until `omrwatchd resume`.")
        return Done("Delivery goes on." if runs else "Delivery goes on when the daemon is started.")

    def _has_daemon(self, connection: Connection) -> bool:
        now = self._clock.now()
        return any(is_alive(row._mapping, now) for row in connection.execute(select(workers)))


@contextmanager
def opened_control(file: Path, clock: Clock) -> Iterator[Control]:
    """The control of the queue in ``file``.

    Raises:
        Problem: ``no_queue`` before the first start of the daemon, ``queue_unusable``.
    """
    if not is_there(file):
        raise Problem("no_queue", f"There is no queue {file} yet.", "Start the daemon once.")
    engine = open_database(file, create=True)
    try:
        with usable(file):
            yield Control(engine, clock)
    finally:
        engine.dispose()


def _job(connection: Connection, job_id: int) -> Job:
    found = read_jobs(connection, jobs.c.id == job_id) if 0 < job_id < _IDS else []
    if not found:
        advice = "`omrwatchd status --all` lists them."
        raise Problem("unknown_id", f"There is no file with the id {job_id}.", advice)
    return found[0]


def _counted(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number:,} {noun}s are"


def _stays(job: Job) -> bool:
    """Taken off the waiting list, its file still in the drop folder."""
    return job.filed_at is None and job.problem is not None and job.problem.code == RESET.code


def _set(connection: Connection, job_id: int, **columns: object) -> None:
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**columns))


def _not_now(job: Job, verb: str, advice: str = "") -> Problem:
    return Problem("not_now", f"{job.name} is {job.status} and can't be {verb}.", advice)
