from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omrwatchd.cli.explain import explain
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import Arriving, Identity, NewJob, NewPart, Status
from omrwatchd.queue.control import opened_control
from omrwatchd.queue.database import open_database
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings, Watch
from tests.zips import write_zip

Said = Callable[..., str]


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


def test_each_stage_has_its_sentence(drop: Path, tmp_path: Path) -> None:
    """Arriving, waiting, uploading, failed, delivered, left alone, unknown: each is told apart."""
    settings = Settings(server={"base_url": "http://127.0.0.1:9"}, watch=(Watch(drop=drop),))  # type: ignore
    engine = open_database(tmp_path / "queue.db", create=True)
    store = Store(engine, SystemClock())
    views = Views(tmp_path / "queue.db", SystemClock())

    def said(name: str) -> str:
        return explain(settings, views, os.fsencode(drop / name))

    def queued(name: str) -> int:
        path = write_zip(drop / name)
        size = path.stat().st_size
        part = NewPart(name, 3, size, stop_sheet=3)
        identity = Identity(size, path.stat().st_mtime_ns, 1)
        return store.admit(NewJob(os.fsencode(path), name, "default", identity, sheets=3, parts=(part,)))

    assert "can't be looked at: No such file" in said("never.zip")
    write_zip(drop / "new.zip")
    assert "has not been seen yet" in said("new.zip")
    write_zip(drop / "scan.zip.part")
    assert "left alone" in said("scan.zip.part")
    assert "no drop folder" in explain(settings, views, os.fsencode(write_zip(tmp_path / "else.zip")))
    store.set_arriving({os.fsencode(drop / "new.zip"): Arriving("new.zip", 5, "still growing")})
    assert "not queued yet: still growing. The daemon does not run" in said("new.zip")

    first, _second = queued("a.zip"), queued("b.zip")
    assert "waits in the queue as the next one" in said("a.zip")
    assert "waits in the queue behind 1 other file" in said("b.zip")
    job = store.claim("w")
    assert job is not None
    assert "is being uploaded: 0% are sent" in said("a.zip")
    Ledger(engine, engine, SystemClock()).batch_created(job.parts[0], "batch-7")
    store.filed(store.job(first), os.fsencode(drop / "a.zip"))
    assert "delivered as batch batch-7" in said("a.zip")
    other = store.claim("w")
    assert other is not None
    store.end(other, Status.ERROR, Problem("refused", "The server said: no.", "Ask there."))
    assert said("b.zip") == "b.zip was not delivered: The server said: no. Ask there."
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = open_database(tmp_path / "queue.db", create=True)
    yield Store(engine, SystemClock())
    engine.dispose()


@pytest.fixture
def said(tmp_path: Path, drop: Path, store: Store) -> Said:
    """What is said of a path, with the watch as given."""

    def say(path: Path, **watch: Any) -> str:
        settings = Settings(server={"base_url": "http://127.0.0.1:9"}, watch=(Watch(drop=drop, **watch),))  # type: ignore
        return explain(settings, Views(tmp_path / "queue.db", SystemClock()), os.fsencode(path))

    return say


def put(store: Store, path: Path) -> int:
    found = write_zip(path).stat()
    part = NewPart(path.name, 3, found.st_size, stop_sheet=3)
    identity = Identity(found.st_size, found.st_mtime_ns, found.st_ino)
    return store.admit(NewJob(os.fsencode(path), path.name, "default", identity, sheets=3, parts=(part,)))


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("still growing since 2026-05-04 14:02:11", "still growing since 2026-05-04 14:02:11."),
        ("a program still has it open for writing", "a program still has it open for writing."),
        ("waiting for its marker a.zip.done", "waiting for its marker a.zip.done."),
        ("the queue is full", "the queue is full."),
        (
            "a.zip is not a complete ZIP file: x.",
            "x. It is put into {failed} when it has not changed for 10 minutes.",
        ),
    ],
)
def test_arriving_file_is_told_with_intake_s_reason(
    store: Store, said: Said, drop: Path, why: str, words: str
) -> None:
    """What it waits for; of one that is no ZIP yet also what becomes of it."""
    store.set_arriving({os.fsencode(drop / "a.zip"): Arriving("a.zip", 5, why)})
    write_zip(drop / "a.zip")
    assert words.format(failed=drop.parent / "failed") in said(drop / "a.zip")


def test_files_ahead_are_counted_in_the_order_in_which_they_go(store: Store, said: Said, drop: Path) -> None:
    """A file that was moved up goes before older ones, and is behind none."""
    first, second, third = (put(store, drop / name) for name in ("a.zip", "b.zip", "c.zip"))
    assert first < second < third
    with opened_control(drop.parent / "queue.db", SystemClock()) as control:
        control.prioritise(third)
    assert "as the next one" in said(drop / "c.zip")
    assert "behind 1 other file." in said(drop / "a.zip")
    assert "behind 2 other files." in said(drop / "b.zip")


def test_filed_file_is_explained_by_the_name_that_it_was_dropped_under(
    store: Store, said: Said, drop: Path
) -> None:
    """It is in done/ or failed/ by now, perhaps under a longer name: that is what became of it."""
    job = store.job(put(store, drop / "a.zip"))
    store.end(
        job, Status.ERROR, Problem("duplicate", "a.zip was delivered before, as x.zip (batch B-1).", "Fine.")
    )
    target = drop.parent / "failed" / "a.20260504-101112-abcdef.zip"
    store.filed(store.job(job.id), os.fsencode(target))
    (drop / "a.zip").unlink()
    assert "delivered before, as x.zip (batch B-1)" in said(drop / "a.zip")
    write_zip(drop / "a.zip")  # a new one of that name
    assert "has not been seen yet" in said(drop / "a.zip")


def test_path_through_a_link_is_the_same_file(store: Store, said: Said, drop: Path, tmp_path: Path) -> None:
    """People know the share by another path than the daemon."""
    (tmp_path / "share").symlink_to(drop)
    put(store, drop / "a.zip")
    assert "waits in the queue" in said(tmp_path / "share" / "a.zip")


def test_what_is_left_alone_has_its_reason(said: Said, drop: Path, tmp_path: Path) -> None:
    """Links, pipes, names, folders: each in a few words."""
    os.mkfifo(drop / "fifo.zip")
    (drop / "link.zip").symlink_to(tmp_path)
    (drop / ".trash").mkdir()
    write_zip(drop / ".trash" / "b.zip")
    (drop / "notes.txt").touch()
    assert "no regular file" in said(drop / "fifo.zip")
    assert "links are not followed" in said(drop / "link.zip")
    assert "folder .trash is among the ignored" in said(drop / ".trash" / "b.zip", recursive=True)
    assert "lies in no drop folder" in said(drop / ".trash" / "b.zip")
    assert "does not end in .zip" in said(drop / "notes.txt")
    drop.rename(tmp_path / "away")
    assert f"its drop folder {drop} is not there" in said(drop / "a.zip")


def test_folders_of_pictures_are_what_counts_where_pictures_are_dropped(said: Said, drop: Path) -> None:
    """A picture is explained by its folder; a ZIP is not wanted there."""
    pictures = {"upload_type": "images", "task_id": "7"}
    (drop / "room").mkdir()
    (drop / "room" / "1.jpg").touch()
    write_zip(drop / "a.zip")
    assert said(drop / "room" / "1.jpg", **pictures).startswith("room has not been seen yet")
    assert "only folders of pictures count" in said(drop / "a.zip", **pictures)


def test_a_file_that_has_gone_its_way_is_found_by_its_old_place(drop: Path, tmp_path: Path) -> None:
    """Asked for at its old place after the delivery, it says where the file went, and as which batch."""
    watches = (Watch(drop=drop),)
    settings = Settings(server={"base_url": "http://127.0.0.1:9"}, watch=watches)  # type: ignore
    engine = open_database(tmp_path / "queue.db", create=True)
    store = Store(engine, SystemClock())
    path = write_zip(drop / "a.zip")
    size = path.stat().st_size
    identity = Identity(size, path.stat().st_mtime_ns, path.stat().st_ino)
    part = NewPart("a.zip", 3, size, stop_sheet=3)
    store.admit(NewJob(os.fsencode(path), "a.zip", "default", identity, sheets=3, parts=(part,)))
    job = store.claim("w")
    assert job is not None
    Ledger(engine, engine, SystemClock()).batch_created(job.parts[0], "batch-7")
    (tmp_path / "done").mkdir()
    path.rename(tmp_path / "done" / "a.zip")
    store.filed(store.job(job.id), os.fsencode(tmp_path / "done" / "a.zip"))
    words = explain(settings, Views(tmp_path / "queue.db", SystemClock()), os.fsencode(path))
    assert words == f"a.zip was delivered as batch batch-7. It lies in {tmp_path / 'done'} now."
