"""What `status` lists, and in which order."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import Identity, NewJob, NewPart, Status
from omrwatchd.queue.control import Control
from omrwatchd.queue.database import open_database
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import RECENT, Views

FAILED = Problem("refused", "The server said: no.", "Ask.")


class Ticking(SystemClock):
    """Each look is a second later."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1_700_000_000)

    def now(self) -> float:
        return float(next(self._seconds))


def test_rows_stand_in_the_order_in_which_things_happen(tmp_path: Path) -> None:
    """Finished ones by their end, the newest 20; what is under way; then what waits, in turn."""
    engine = open_database(tmp_path / "queue.db", create=True)
    store, control = Store(engine, Ticking()), Control(engine, Ticking())
    views = Views(tmp_path / "queue.db", SystemClock())

    def admit(name: str) -> int:
        path = os.fsencode(tmp_path / name)
        return store.admit(NewJob(path, name, "default", Identity(2, 1, 1), parts=(NewPart(name, 3, 2),)))

    def finish() -> None:
        job = store.claim("worker")
        assert job is not None
        store.end(job, Status.ERROR, FAILED)

    names = [f"{number:02}.zip" for number in range(RECENT + 3)]
    ids = [admit(name) for name in names]
    control.prioritise(ids[-1])  # ended first, though it came last
    for _ in names:
        finish()
    resumed, second, third, favoured = (admit(name) for name in ("resumed", "second", "third", "favoured"))
    begun = store.claim("worker")
    assert begun is not None
    assert begun.id == resumed
    store.give_back(begun, attempted=False)  # an outage: what has begun goes on before what has not
    control.prioritise(favoured)
    under_way = store.claim("worker")
    assert under_way is not None
    assert under_way.id == favoured
    by_end = [names[-1], *names[:-1]]
    rest = ["favoured", "resumed", "second", "third"]
    assert [job.name for job in views.snapshot().jobs] == by_end[-RECENT:] + rest
    assert [job.name for job in views.snapshot(everything=True).jobs] == by_end + rest
    control.prioritise(third)
    assert [job.name for job in views.snapshot().jobs][-3:] == ["third", "resumed", "second"]
    assert second != third
