"""SIGKILL and SIGTERM while the queue of an older version is brought up to date."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from omrwatchd.queue import schema
from tests.e2e.conftest import Machine
from tests.e2e.kills.conftest import Zygote
from tests.zips import sha256, write_zip

HISTORY = 100_000
"""Jobs; to index them takes a third of a second."""
STATEMENTS = (
    "CREATE INDEX jobs_listed",
    "CREATE INDEX jobs_by_path",
    "ALTER TABLE parts",
    "UPDATE alembic_version",
)


def old_queue(machine: Machine, history: int) -> Path:
    """As the first version left it."""
    file = machine.folder / "state" / "queue.db"
    file.parent.mkdir()
    engine = create_engine(f"sqlite:///{file}")
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(file)) as queue, queue:
        queue.executemany(
            "INSERT INTO jobs (path, name, watch, size, mtime_ns, inode, upload_type, sheets, status,"
            " created_at, finished_at, filed_at, summary_at)"
            " VALUES (?, ?, 'default', 1, 1, '1', 'zip_with_qr', 1, 'completed', 1, 1, 1, 1)",
            ((f"/done/{number}.zip".encode(), f"{number}.zip") for number in range(history)),
        )
    return file


def version(file: Path) -> str:
    with closing(sqlite3.connect(file)) as queue:
        return str(queue.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def goes_on(machine: Machine, file: Path, history: int) -> None:
    """The next start brings the queue up to date, delivers, and has forgotten nothing."""
    digest = sha256(write_zip(machine.drop / "scan.zip"))
    assert machine.start("--until-idle").wait(60) == 0
    assert [batch.sha256 for batch in machine.receiver.batches] == [digest]
    assert version(file) == schema.HEAD
    with closing(sqlite3.connect(file)) as queue:
        assert queue.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert queue.execute("SELECT count(*) FROM jobs").fetchone() == (history + 1,)


@pytest.mark.parametrize("statement", [*STATEMENTS, "COMMIT"])
def test_killed_at_each_step_of_an_upgrade(machine: Machine, zygote: Zygote, statement: str) -> None:
    """All of it or nothing is done: the queue is still the old one."""
    file = old_queue(machine, 10)
    zygote.start(kill_at=1) if statement == "COMMIT" else zygote.start(kill_on=statement)
    assert zygote.ended() == -signal.SIGKILL
    assert version(file) == "0001"
    goes_on(machine, file, 10)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_ended_at_random_moments_of_an_upgrade(machine: Machine, number: signal.Signals) -> None:
    """Of a queue with a long history; a stop does not wait for the end of it."""
    file = old_queue(machine, HISTORY)
    source, pause = random.Random(20261128), threading.Event()
    for _ in range(12):
        process = machine.start()
        pause.wait(source.uniform(0.2, 1.2))
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        assert process.wait(10) in (0, -number)
        assert time.monotonic() - began < 1.0
    goes_on(machine, file, HISTORY)
