"""The daemon's own row: one daemon a queue, what it is doing, and its heartbeat."""

from __future__ import annotations

import socket
from typing import Any

from sqlalchemy import Engine, Row, func, insert, select, update

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.model import WorkerState
from omrwatchd.queue.process import LEASE_SECONDS, Process, is_alive
from omrwatchd.queue.schema import workers


class WorkerRow:
    """The row of this daemon."""

    def __init__(self, engine: Engine, quick: Engine, clock: Clock) -> None:
        self._reader = engine
        self._writer = engine.execution_options(writes=True)
        self._quick = quick.execution_options(writes=True)
        self._clock = clock
        self._process = Process.this()
        self._renewed_at = clock.now()
        self.id = socket.gethostname()[:80]
        self._mine = select(workers).where(workers.c.id == self.id)

    def register(self) -> None:
        """Take the queue.

        Raises:
            Problem: ``queue_in_use`` when another daemon has it.
        """
        now = self._clock.now()
        process = self._process
        mine = {
            "host": process.host,
            "boot_id": process.boot_id,
            "pid": process.pid,
            "pid_started": process.started,
            "state": WorkerState.IDLE,
            "reason": None,
            "since": now,
            "job_id": None,
            "rate": None,
            "heartbeat": now,
        }
        with self._writer.begin() as connection:
            for row in connection.execute(select(workers)):
                if is_alive(row._mapping, now) and (row.host, row.pid) != (process.host, process.pid):
                    raise Problem(
                        "queue_in_use",
                        f"Another omrwatchd (process {row.pid}) already works on this queue.",
                        "Stop it first, or give this one a queue.path of its own.",
                    )
            known = connection.execute(self._mine).first()
            if known is None:
                connection.execute(insert(workers).values(id=self.id, **mine))
            else:
                connection.execute(update(workers).where(workers.c.id == self.id).values(**mine))

    def show(self, state: WorkerState, *, reason: str | None = None, job_id: int | None = None) -> None:
        """Say what the daemon is doing now."""
        now = self._clock.now()
        self._update(state=state, reason=reason, job_id=job_id, since=now, heartbeat=now, rate=None)

    def renew(self) -> None:
        """Called again and again, also at rest: keeps the lease where nobody can see the process."""
        if not self._process.lives_by_heartbeat:
            return
        if abs(self._clock.now() - self._renewed_at) >= LEASE_SECONDS / 3:
            self._renewed_at = self._clock.now()
            self._update(heartbeat=self._renewed_at)

    def _update(self, **columns: Any) -> None:
        with self._quick.begin() as connection:
            connection.execute(update(workers).where(workers.c.id == self.id).values(**columns))

    def row(self) -> Row[Any]:
        with self._reader.begin() as connection:
            return connection.execute(self._mine).one()

    def cooldown_left(self, longest: float) -> float:
        """Seconds of cooldown left, over restarts; above ``longest`` it is none: the clock was set back."""
        until = self.row().cooldown_until
        if until is None:
            return 0.0
        left = float(until) - self._clock.now()
        if 0 < left <= longest:
            return left
        self.cool_down(None)
        return 0.0

    def count_failure(self) -> int:
        """One more file has failed; how many in a row that makes, over restarts."""
        with self._writer.begin() as connection:
            return int(
                connection.execute(
                    update(workers)
                    .where(workers.c.id == self.id)
                    .values(failures_in_a_row=workers.c.failures_in_a_row + 1)
                    .returning(workers.c.failures_in_a_row)
                ).scalar_one()
            )

    def forgive_failures(self) -> None:
        """A file was delivered, or a hold is over: the count begins anew."""
        self._update(failures_in_a_row=0)

    def begin_hold(self) -> None:
        """The queue is held; one that a restart interrupted goes on."""
        self._update(held_since=func.coalesce(workers.c.held_since, self._clock.now()))

    def end_hold(self) -> float | None:
        """How long it was held (seconds), over restarts; None: it was not."""
        since = self.row().held_since
        if since is None:
            return None
        self._update(held_since=None)
        return max(0.0, self._clock.now() - float(since))

    def take_release(self) -> None:
        """An operator's word to end a hold is heard."""
        self._update(release=False)

    def cool_down(self, until: float | None) -> None:
        self._update(cooldown_until=until)
