"""A running intake on real folders and a real queue; what it admits stays there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine

from omrwatchd.clock import SystemClock
from omrwatchd.events import Event, Hooks
from omrwatchd.intake.loop import Intake
from omrwatchd.model import Job, Status
from omrwatchd.queue.database import open_database
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Snapshot, Views
from omrwatchd.settings import Settings, Watch
from tests.waiting import until

E = TypeVar("E", bound=Event)


@dataclass
class Office:
    folder: Path
    drop: Path
    intake: Intake
    store: Store
    views: Views
    events: list[Event]
    engine: Engine
    deaths: list[BaseException] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        return list(self.snapshot().jobs)

    def snapshot(self) -> Snapshot:
        return self.views.snapshot(everything=True)

    def queued(self, name: str, seconds: float = 15.0) -> Job:
        def found() -> Job | None:
            assert not self.deaths, self.deaths
            return next((job for job in self.jobs() if job.name == name), None)

        job = until(found, seconds, f"{name} queued")
        assert job is not None
        return job

    def why(self, name: str) -> str:
        return next((file.why for file in self.snapshot().arriving if file.name == name), "")

    def await_event(self, kind: type[E], seconds: float = 15.0) -> E:
        return until(lambda: [e for e in self.events if isinstance(e, kind)], seconds, kind.__name__)[0]

    def statuses(self) -> dict[str, Status]:
        return {job.name: job.status for job in self.jobs()}


OpenOffice = Callable[..., contextlib.AbstractContextManager[Office]]


@pytest.fixture
def open_office(tmp_path: Path) -> OpenOffice:
    @contextlib.contextmanager
    def open_it(*more: Watch, queue: dict[str, Any] | None = None, **watch: Any) -> Iterator[Office]:
        drop = tmp_path / "drop"
        drop.mkdir(exist_ok=True)
        first = Watch(
            **({"drop": drop, "settle_seconds": 0.4, "give_up_seconds": 1.5, "status_board": False} | watch)
        )
        engine = open_database(tmp_path / "queue.db", create=True)
        store = Store(engine, SystemClock())
        announced: list[Event] = []
        deaths: list[BaseException] = []
        settings = Settings(  # type: ignore[call-arg]
            server={"base_url": "http://127.0.0.1:9/api"},  # type: ignore[arg-type]
            queue=queue or {},  # type: ignore[arg-type]
            watch=(first, *more),
        )
        intake = Intake(
            settings, store, SystemClock(), Hooks([announced.append]),
            Views(tmp_path / "queue.db", SystemClock()), lambda: None,
            lambda _name, death: deaths.append(death),
        )  # fmt: skip
        views = Views(tmp_path / "queue.db", SystemClock())
        intake.start()
        try:
            yield Office(tmp_path, drop, intake, store, views, announced, engine, deaths)
        finally:
            intake.stop()
            assert intake.join(5), "intake did not stop within 5 s"
            engine.dispose()
        assert not deaths
        assert os.path.isdir(tmp_path)

    return open_it
