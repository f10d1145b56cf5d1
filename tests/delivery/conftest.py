"""A real worker on a real queue, talking to a real server on a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from omrwatchd.delivery.filing import Away
from omrwatchd.delivery.worker import Worker
from omrwatchd.events import Event, Hooks
from omrwatchd.intake.parts import parts_of
from omrwatchd.model import Identity, Job, Metadata, NewJob, Status, WorkerState
from omrwatchd.queue.control import Control, opened_control
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.receiver import Receiver
from omrwatchd.service import delivery
from omrwatchd.settings import MIB, Settings
from omrwatchd.sheets.archive import read_archive
from tests.waiting import HurriedClock, until
from tests.zips import write_zip

E = TypeVar("E", bound=Event)
GATE = {
    "status_path": "/processing/status",
    "busy_field": "queue.busy",
    "start_path": "/processing/{batch_id}/start",
    "poll_seconds": 3600,
}
"""An hour between two questions: what is noticed sooner is noticed by itself."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@dataclass
class Station:
    """A scanner station without its intake: tests put jobs into the queue themselves."""

    folder: Path
    settings: Settings
    worker: Worker
    store: Store
    events: list[Event]
    deaths: list[BaseException] = field(default_factory=list)

    def drop(
        self,
        name: str = "scan.zip",
        *,
        sheets: int = 3,
        size: int = 3_000,
        metadata: Metadata | None = None,
    ) -> Job:
        path = write_zip(self.folder / "drop" / name, sheets=sheets, size=size)
        found = path.stat()
        with path.open("rb") as file:
            archive = read_archive(file.fileno(), name)
        job_id = self.store.admit(
            NewJob(
                path=os.fsencode(path),
                name=name,
                watch="default",
                identity=Identity(found.st_size, found.st_mtime_ns, found.st_ino),
                metadata=metadata or Metadata(),
                sheets=archive.sheets,
                fingerprint=archive.fingerprint,
                parts=parts_of(name, archive, self.settings.split),
            )
        )
        return self.store.job(job_id)

    def job(self, job: Job) -> Job:
        return self.store.job(job.id)

    def ends(self, job: Job, status: Status, seconds: float = 30.0) -> Job:
        """Wait until the job is in ``status``, filed and summed up."""

        def over() -> bool:
            assert not self.deaths, self.deaths
            now = self.job(job)
            return now.status is status and now.summary_at is not None

        until(over, seconds, f"{job.name} {status}")
        return self.job(job)

    @contextlib.contextmanager
    def operator(self) -> Iterator[Control]:
        """Somebody at the command line."""
        assert self.settings.queue.path is not None
        with opened_control(self.settings.queue.path, HurriedClock()) as control:
            yield control

    def tools_row(self) -> Any:
        """The worker's row as anybody sees it."""
        assert self.settings.queue.path is not None
        return Views(self.settings.queue.path, HurriedClock()).snapshot().worker

    def hold_age(self) -> float:
        """Seconds of the daemon's clock since it was held; 0 when it is not."""
        worker = self.tools_row()
        if worker.state is not WorkerState.HELD or worker.since is None:
            return 0.0
        return (HurriedClock().now() - float(worker.since)) * HurriedClock.FACTOR

    def announced(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def await_event(self, kind: type[E], seconds: float = 30.0) -> E:
        return until(lambda: self.announced(kind), seconds, kind.__name__)[0]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "server", token="right-token") as running:
        yield running


@pytest.fixture
def swallowing_server() -> Iterator[str]:
    """Takes connections and the first bytes, and reads no more: a sender blocks in its send."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        held: list[socket.socket] = []
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    held.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"
        over.set()
        thread.join()
        for connection in held:
            connection.close()


OpenStation = Callable[..., contextlib.AbstractContextManager[Station]]


@pytest.fixture
def open_station(tmp_path: Path, receiver: Receiver) -> OpenStation:
    """Opens the station; opening it again is a restart on the same queue."""

    @contextlib.contextmanager
    def open_it(
        *, start: bool = True, away: Away = lambda _watch, _look: None, **sections: dict[str, Any]
    ) -> Iterator[Station]:
        (tmp_path / "drop").mkdir(exist_ok=True)
        table: dict[str, dict[str, Any]] = {
            "server": {"base_url": receiver.base_url, "token": "right-token"},
            "upload": {"chunk_size": MIB, "direct_limit": 2 * MIB},
            "queue": {"path": tmp_path / "queue.db", "cooldown_seconds": 0.05},
            "summary": {"path": tmp_path / "summary.jsonl"},
        }
        for name, values in sections.items():
            table[name] = table.get(name, {}) | values
        watch = {"drop": tmp_path / "drop"} | table.pop("watch", {})
        settings = Settings(watch=(watch,), **table)  # type: ignore[arg-type]
        announced: list[Event] = []
        deaths: list[BaseException] = []
        hooks = Hooks([announced.append])
        with delivery(settings, HurriedClock(), hooks, lambda _name, death: deaths.append(death), away) as (
            worker,
            store,
        ):
            station = Station(tmp_path, settings, worker, store, announced, deaths)
            if start:
                worker.start()
            try:
                yield station
            finally:
                worker.stop()
                assert worker.join(5), "the worker did not stop within 5 s"
        assert not deaths

    return open_it
