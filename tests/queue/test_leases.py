"""One daemon a queue, and a job belongs to a daemon that lives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, update

from omrwatchd.errors import Problem
from omrwatchd.model import Status
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.process import LEASE_SECONDS, Process
from omrwatchd.queue.schema import workers
from omrwatchd.queue.store import Store
from omrwatchd.queue.workers import WorkerRow
from tests.queue.test_store import new_job


class SetClock:
    time = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: Event, seconds: float | None) -> bool:
        self.time += seconds or 0.0
        return event.is_set()


class Queue:
    """A queue that another daemon has registered with, some time ago."""

    def __init__(self, engine: Engine, quick: Engine) -> None:
        self.clock = SetClock()
        self.store = Store(engine, self.clock)
        self._engines = engine, quick
        self.other = self.worker("elsewhere", pid=1)
        self.other.register()

    def worker(self, name: str, **process: Any) -> WorkerRow:
        row = WorkerRow(*self._engines, self.clock)
        row.id = name
        row._process = replace(row._process, **process)
        return row

    def rewrite(self, **columns: Any) -> None:
        """The other daemon's row, as another machine, boot or process would have written it."""
        with self._engines[0].execution_options(writes=True).begin() as connection:
            connection.execute(update(workers).where(workers.c.id == self.other.id).values(**columns))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    engine, quick = open_database(tmp_path / "queue.db", create=True), open_quick(tmp_path / "queue.db")
    yield Queue(engine, quick)
    quick.dispose()
    engine.dispose()


FIRST = Process.this()


@pytest.mark.parametrize(
    "row",
    [
        {"pid": FIRST.pid, "pid_started": "1"},
        {"pid": FIRST.pid, "pid_started": FIRST.started, "boot_id": "of last week"},
        {"pid": 2**22 + 1},
        {"pid": FIRST.pid, "pid_started": FIRST.started, "state": "stopped"},
        {"host": "far away", "heartbeat": SetClock.time - LEASE_SECONDS - 1},
        {"host": "far away", "heartbeat": SetClock.time + 3600},
    ],
    ids=["pid of another by now", "other boot", "no process", "stopped", "silent host", "clock set back"],
)
def test_lease_of_a_dead_daemon_is_taken_over(queue: Queue, row: dict[str, Any]) -> None:
    """By its process, boot and heartbeat it is gone: we are the daemon now, and its job waits again."""
    job = queue.store.admit(new_job("a.zip"))
    queue.store.claim(queue.other.id)
    queue.rewrite(**row)
    mine = queue.worker("here", pid=FIRST.pid + 1)
    mine.register()
    assert queue.store.release_abandoned(mine.id) == [job]
    assert queue.store.job(job).status is Status.PENDING
    assert queue.store.claim(mine.id) is not None


@pytest.mark.parametrize(
    "row",
    [
        {"pid": FIRST.pid, "pid_started": FIRST.started},
        {"host": "far away", "heartbeat": SetClock.time - LEASE_SECONDS / 2},
    ],
    ids=["here", "far away"],
)
def test_living_daemon_keeps_its_queue_and_its_job(queue: Queue, row: dict[str, Any]) -> None:
    """A second one is refused in a sentence that names the first, and leaves its job alone."""
    job = queue.store.admit(new_job("a.zip"))
    queue.store.claim(queue.other.id)
    queue.rewrite(**row)
    mine = queue.worker("here", pid=FIRST.pid + 1)
    with pytest.raises(Problem, match="already works on this queue") as refused:
        mine.register()
    assert refused.value.code == "queue_in_use"
    assert "queue.path" in refused.value.advice
    assert queue.store.release_abandoned(mine.id) == []
    assert queue.store.job(job).status is Status.UPLOADING


def test_daemon_in_a_container_keeps_its_lease_at_rest(queue: Queue) -> None:
    """No other container can see its process: it says that it lives, also with nothing to do."""
    inside = queue.worker("inside", host="box pid:[4026532000]")
    queue.rewrite(state="stopped")
    inside.register()
    for _ in range(10):
        queue.clock.time += LEASE_SECONDS / 4
        inside.renew()
    with pytest.raises(Problem, match="already works on this queue"):
        queue.worker("inside too", host="box pid:[4026532999]").register()
    queue.clock.time += LEASE_SECONDS + 1
    queue.worker("inside too", host="box pid:[4026532999]").register()


def test_machines_own_daemon_writes_nothing_at_rest(queue: Queue) -> None:
    """Whoever can see its process needs no sign of life."""
    outside = queue.worker("outside", host="box pid:[4026531836]")
    queue.rewrite(state="stopped")
    outside.register()
    changes = queue.store.changes()
    changes.seen()
    queue.clock.time += 10 * LEASE_SECONDS
    outside.renew()
    assert not changes.seen()
    changes.close()
