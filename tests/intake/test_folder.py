from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Bell
from typing import Any

import pytest

from omrwatchd import events
from omrwatchd.clock import local_time
from omrwatchd.events import Event
from omrwatchd.intake import inspect
from omrwatchd.intake.admit import Admission
from omrwatchd.intake.folder import DropFolder
from omrwatchd.model import Metadata
from omrwatchd.queue.database import open_database
from omrwatchd.queue.store import Store
from omrwatchd.settings import Settings, Watch
from tests.zips import write_zip


class SteppedClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: Bell, seconds: float | None) -> bool:
        raise NotImplementedError


@dataclass
class Desk:
    drop: Path
    folder: DropFolder
    clock: SteppedClock
    events: list[Event]
    store: Store

    def look(self, seconds: float, *, room: int = 100) -> None:
        """Look whenever it is due, for so long."""
        until = self.clock.time + seconds
        while self.clock.time <= until:
            self.look_once(room)
            assert self.folder.due > self.clock.time
            self.clock.time = self.folder.due

    def look_once(self, room: int = 100) -> None:
        for file in self.folder.look():
            room -= self.folder.take(file, room)
        self.folder.plan_next_look()

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def why(self) -> list[str]:
        return [file.why for file in self.folder.arriving().values()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    drop = tmp_path / "drop"
    drop.mkdir()
    engine = open_database(tmp_path / "queue.db", create=True)
    clock = SteppedClock()
    announced: list[Event] = []
    watch = Watch(drop=drop, settle_seconds=5, give_up_seconds=600)
    store = Store(engine, clock)
    settings = Settings(server={"base_url": "http://127.0.0.1:9"}, watch=(watch,))  # type: ignore
    admission = Admission(watch, store, settings)
    yield Desk(drop, DropFolder(watch, admission, store, clock, announced.append), clock, announced, store)
    engine.dispose()


def test_share_that_is_away_for_a_week_is_taken_up_again(desk: Desk) -> None:
    """Lost is told once, looked for every minute, and the folder's return is noticed."""
    desk.drop.rmdir()
    desk.look(7 * 86400)
    desk.drop.mkdir()
    desk.look(60)
    assert [type(event) for event in desk.events] == [events.DropFolderLost, events.DropFolderBack]


def test_lost_folder_keeps_what_was_arriving_and_is_not_quiet(desk: Desk) -> None:
    """What was on its way is neither forgotten nor done."""
    write_zip(desk.drop / "scan.zip")
    desk.look_once()
    desk.drop.rename(desk.drop.parent / "away")
    desk.look(60)
    assert desk.why == ["waiting until it is finished"]
    assert not desk.folder.quiet
    (desk.drop.parent / "away").rename(desk.drop)
    desk.look(70)
    assert desk.told(events.FileQueued)
    assert desk.folder.quiet


def test_empty_file_that_a_program_has_open_is_not_given_up(desk: Desk) -> None:
    """A scanner that makes the file first and writes it an hour later."""
    whole = write_zip(desk.drop.parent / "whole").read_bytes()
    with (desk.drop / "scan.zip").open("wb") as file:
        desk.look(3600)
        assert desk.why == ["a program still has it open for writing"]
        file.write(whole)
    desk.look(60)
    assert [event.bytes for event in desk.told(events.FileQueued)] == [len(whole)]
    assert not desk.told(events.FileRefused)


def test_incomplete_file_opened_again_is_not_given_up_while_it_is_open(desk: Desk) -> None:
    """It was closed when first looked into; the writer that came back since is waited for."""
    whole = write_zip(desk.drop.parent / "whole").read_bytes()
    (desk.drop / "scan.zip").write_bytes(whole[:-30])
    desk.look(60)
    with (desk.drop / "scan.zip").open("ab") as file:
        desk.look(3600)
        assert not desk.told(events.FileRefused)
        file.write(whole[-30:])
    desk.look(60)
    assert desk.told(events.FileQueued)


def test_file_completed_under_its_old_mtime_is_seen_before_it_is_given_up(desk: Desk) -> None:
    """A copier sets size and mtime first; bytes that change neither count at the last look."""
    whole = write_zip(desk.drop.parent / "whole").read_bytes()
    path = desk.drop / "scan.zip"
    path.write_bytes(bytes(len(whole)))
    os.utime(path, (5, 5))
    desk.look(60)
    with path.open("r+b") as file:
        file.write(whole)
    os.utime(path, (5, 5))
    desk.look(700)
    assert desk.told(events.FileQueued)
    assert not desk.told(events.FileRefused)


def test_broken_file_is_refused_though_the_queue_is_full(desk: Desk) -> None:
    """A refusal takes no room; a good file waits for it."""
    (desk.drop / "cut.zip").write_bytes(b"PK\3\4" * 100)
    desk.look(60)
    write_zip(desk.drop / "good.zip")
    (desk.drop / "empty.zip").touch()
    desk.look(1300, room=0)
    assert sorted(event.code for event in desk.told(events.FileRefused)) == ["empty_file", "not_a_zip"]
    assert desk.why == ["the queue is full"]


def test_unreadable_file_is_told_once_and_holds_up_no_drain_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for as long as for any bad file, stays where it is, and is taken when it can be read."""
    read = inspect.read_archive

    def refuse(_fd: int, _name: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inspect, "read_archive", refuse)
    write_zip(desk.drop / "scan.zip")
    desk.look(300)
    assert not desk.folder.quiet
    desk.look(400)
    assert desk.folder.quiet
    assert [event.reason for event in desk.told(events.FileUnreadable)] == [
        "it can't be read: Permission denied"
    ]
    monkeypatch.setattr(inspect, "read_archive", read)
    desk.look(60)
    assert desk.told(events.FileQueued)


def test_growing_file_is_spoken_of_every_twenty_minutes_and_never_given_up(desk: Desk) -> None:
    """A scan of a whole morning."""
    path = desk.drop / "scan.zip"
    for _ in range(4 * 60):
        with path.open("ab") as file:
            file.write(b"x")
        desk.look_once()
        desk.clock.time += 15
    assert [event.minutes for event in desk.told(events.FileStillGrowing)] == [20, 40]
    assert desk.why == [f"still growing since {local_time(1000.0)}"]


def test_sidecar_that_lands_within_the_settle_time_is_waited_for_until_it_is_whole(desk: Desk) -> None:
    """It may be written slowly, too: half of one is never read."""
    write_zip(desk.drop / "scan.zip")
    desk.look(4)
    with (desk.drop / "scan.zip.toml").open("w") as file:
        file.write('task_id = "77"\nnot')
        file.flush()
        desk.look(4)
        file.write('es = "hall"\n')
    desk.look(4)
    assert not desk.told(events.FileQueued)
    assert not desk.told(events.FileRefused)
    desk.look(10)
    [queued] = desk.told(events.FileQueued)
    assert desk.store.job(queued.job).metadata == Metadata(task_id="77", notes="hall")


def test_sidecar_that_comes_or_is_corrected_while_the_file_waits_counts(desk: Desk) -> None:
    """The queue takes the file anew, with what the sidecar says; one that says the same changes nothing."""
    write_zip(desk.drop / "scan.zip")
    desk.look(10)
    sidecar = desk.drop / "scan.zip.toml"
    for text, task in (('task_id = "1"', "1"), ('task_id = "2"', "2"), ('task_id = "2" # as it was', "2")):
        sidecar.write_text(text)
        desk.look(60)
        assert desk.store.job(desk.told(events.FileQueued)[-1].job).metadata.task_id == task
    assert len(desk.told(events.FileQueued)) == 3
    sidecar.write_text("sheets = 4")
    desk.look(60)
    assert [event.code for event in desk.told(events.FileRefused)] == ["sheets_differ"]


def test_sidecar_that_comes_when_the_upload_has_begun_is_too_late(desk: Desk) -> None:
    """What the server was told already is not told otherwise in mid-upload."""
    write_zip(desk.drop / "scan.zip")
    desk.look(10)
    job = desk.store.claim("w")
    assert job is not None
    desk.store.give_back(job, attempted=False)
    (desk.drop / "scan.zip.toml").write_text('task_id = "1"')
    desk.look(60)
    assert desk.store.job(job.id).metadata.task_id is None


def test_files_that_wait_for_their_markers_are_not_asked_for_all_the_time(desk: Desk) -> None:
    """A marker rings the bell by itself: nothing is scanned every two seconds for hours."""
    desk.folder.watch = desk.folder._admission._watch = desk.folder.watch.model_copy(
        update={"done_marker": "{name}.done"}
    )
    write_zip(desk.drop / "scan.zip")
    desk.look(10)
    assert desk.why == ["waiting for its marker scan.zip.done"]
    desk.look_once()
    assert desk.folder.due >= desk.clock.time + 5
