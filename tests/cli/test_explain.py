from __future__ import annotations

import os
from pathlib import Path

import pytest

from omrwatchd.cli.explain import explain
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import Arriving, Identity, NewJob, NewPart, Status
from omrwatchd.queue.database import open_database
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings, Watch
from tests.zips import write_zip


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
