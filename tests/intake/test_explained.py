"""What `explain` says of a file is what a running intake found: each reason why one does not move."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from omrwatchd.cli.explain import explain
from omrwatchd.clock import SystemClock
from omrwatchd.model import WorkerState
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings, Watch
from tests.intake.conftest import Office, OpenOffice
from tests.waiting import until
from tests.zips import write_zip

Lie = Callable[[Office], contextlib.AbstractContextManager[None]]


def said(office: Office, name: str = "a.zip") -> str:
    settings = Settings(server={"base_url": "http://127.0.0.1:9"}, watch=(Watch(drop=office.drop),))  # type: ignore
    return explain(settings, office.views, os.fsencode(office.drop / name))


@contextlib.contextmanager
def growing(office: Office) -> Iterator[None]:
    with (office.drop / "a.zip").open("wb") as file:

        def grown() -> bool:
            file.write(b"PK\x03\x04")
            file.flush()
            return "still growing since" in said(office)

        until(grown)
        yield


@contextlib.contextmanager
def open_in_a_writer(office: Office) -> Iterator[None]:
    with write_zip(office.drop / "a.zip").open("ab"):
        yield


@contextlib.contextmanager
def cut_off(office: Office) -> Iterator[None]:
    path = write_zip(office.folder / "a.zip")
    (office.drop / "a.zip").write_bytes(path.read_bytes()[:-30])
    yield


@contextlib.contextmanager
def without_its_marker(office: Office) -> Iterator[None]:
    write_zip(office.drop / "a.zip")
    yield


@contextlib.contextmanager
def behind_a_full_queue(office: Office) -> Iterator[None]:
    write_zip(office.drop / "first.zip")
    office.queued("first.zip")
    write_zip(office.drop / "a.zip")
    yield


@contextlib.contextmanager
def delivered_before(office: Office) -> Iterator[None]:
    path = write_zip(office.drop / "first.zip", seed=1)
    office.queued("first.zip")
    job = office.store.claim("w")
    assert job is not None
    Ledger(office.engine, office.engine, SystemClock()).batch_created(job.parts[0], "batch-1")
    path.rename(office.drop / "a.zip")
    office.store.filed(office.store.job(job.id), b"/done/first.zip")
    yield


@contextlib.contextmanager
def behind_three(office: Office) -> Iterator[None]:
    for number in range(3):
        write_zip(office.drop / f"{number}.zip")
        office.queued(f"{number}.zip")
    write_zip(office.drop / "a.zip")
    yield


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (growing, "still growing since"),
        (open_in_a_writer, "a program still has it open for writing"),
        (cut_off, "is not a complete ZIP file: its end is missing"),
        (without_its_marker, "a.zip.done"),
        (behind_a_full_queue, "the queue is full"),
        (delivered_before, "delivered before, as first.zip (batch batch-1)"),
        (behind_three, "behind 3 other files"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_reason_for_not_moving_is_told(open_office: OpenOffice, lie: Lie, words: str) -> None:
    """A real file, a running intake: explained as it lies there."""
    marker = {"done_marker": "{name}.done"} if lie is without_its_marker else {}
    queue = {"max_files": 1} if lie is behind_a_full_queue else {}
    with open_office(give_up_seconds=60, queue=queue, **marker) as office, lie(office):
        until(lambda: words in said(office), what=words)


def test_what_holds_the_whole_queue_is_told_of_each_file(open_office: OpenOffice) -> None:
    """Held, paused or stopped: it is not the file's own fault."""
    with open_office() as office:
        write_zip(office.drop / "a.zip")
        office.queued("a.zip")
        assert "The daemon does not run; start it." in said(office)
        row = WorkerRow(office.engine, office.engine, SystemClock())
        row.register()
        row.show(WorkerState.HELD, reason="The server can't be reached.")
        assert said(office) == (
            "a.zip waits in the queue as the next one. The queue is held: The server can't be reached."
        )
        row.show(WorkerState.PAUSED)
        assert "`omrwatchd resume` ends that" in said(office)
