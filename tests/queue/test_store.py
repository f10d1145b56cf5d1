from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine, create_engine, event, inspect, text

from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import ACTIVE, Arriving, Identity, IllegalMove, Job, NewJob, NewPart, Status
from omrwatchd.queue import schema
from omrwatchd.queue import views as views_module
from omrwatchd.queue.database import open_database, open_quick, schema_version, usable
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import AlreadyQueued, Store
from omrwatchd.queue.views import Views
from omrwatchd.queue.workers import WorkerRow

PROBLEM = Problem("no_sheets", "There is no picture in it.", "Scan again.")


def test_second_opening_in_one_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """As a reload does: another process that looks and leaves must not take the write-ahead log away."""
    file = tmp_path / "queue.db"
    first = open_database(file, create=True)
    with first.connect() as held:
        held.execute(text("SELECT 1"))
        log = os.stat(f"{file}-wal").st_ino
        open_database(file, create=True).dispose()
        look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM jobs')"
        subprocess.run([sys.executable, "-c", f"{look}; c.close()", file], check=True)
        assert os.stat(f"{file}-wal").st_ino == log
    first.dispose()


def new_job(name: str) -> NewJob:
    return NewJob(
        os.fsencode(f"/drop/{name}"), name, "default", Identity(10, 1, 2**63 + 1), sheets=1,
        parts=(NewPart(name, 1, 10, stop_sheet=1),),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "queue.db"


@pytest.fixture
def engine(file: Path) -> Iterator[Engine]:
    engine = open_database(file, create=True)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, SystemClock())


def test_new_database_is_private_durable_and_at_the_newest_version(engine: Engine, file: Path) -> None:
    """WAL, FULL, foreign keys; readable by its user alone; and its tables are those of the program."""
    assert schema_version(engine) == schema.HEAD
    assert file.stat().st_mode & 0o077 == 0
    with engine.connect() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert pragmas == ["wal", 2, 1]
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_head_is_the_newest_migration() -> None:
    """schema.HEAD and migrations/ agree."""
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert scripts.get_heads() == [schema.HEAD]


def shape(engine: Engine) -> dict[str, Any]:
    """All that the tables are made of but the order of their columns."""
    inspector = inspect(engine)

    def by_name(found: Sequence[Any]) -> list[Any]:
        return sorted((str(sorted(each.items(), key=str)) for each in found), key=str)

    return {
        table: [
            by_name([{**each, "type": str(each["type"])} for each in inspector.get_columns(table)]),
            inspector.get_pk_constraint(table),
            by_name(inspector.get_foreign_keys(table)),
            by_name(inspector.get_unique_constraints(table)),
            by_name(inspector.get_check_constraints(table)),
        ]
        for table in sorted(inspector.get_table_names())
    }


def test_new_database_is_what_the_migrations_make(engine: Engine, tmp_path: Path) -> None:
    """It is made without them, for Alembic costs time and memory: nothing may be missing."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with migrated.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    assert shape(engine) == shape(migrated)
    with engine.connect() as new, migrated.connect() as old:
        stamp = text("SELECT version_num FROM alembic_version")
        assert new.execute(stamp).all() == old.execute(stamp).all()
        indexes = text(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
        )
        assert new.execute(indexes).all() == old.execute(indexes).all()
    migrated.dispose()


def test_database_from_a_newer_version_is_refused(engine: Engine, file: Path) -> None:
    """An older program leaves a newer queue alone, in one sentence: the daemon, its commands, a look."""
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    said = []
    for opening in (
        lambda: open_database(file, create=True),
        lambda: open_database(file, create=False),
        lambda: Views(file, SystemClock()).snapshot(),
    ):
        with pytest.raises(Problem) as caught:
            opening()
        said.append(caught.value)
    assert len(set(said)) == 1
    assert said[0].code == "queue_unusable"
    assert "newer version (9999)" in said[0].summary
    assert "newer omrwatchd" in said[0].advice
    assert schema_version(engine) == "9999"


def test_database_from_an_older_version_is_upgraded_by_the_daemon_alone(engine: Engine, file: Path) -> None:
    """Who only looks is told to restart it."""
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    with pytest.raises(Problem) as caught:
        open_database(file, create=False)
    assert "older version (0002)" in caught.value.summary
    assert "Restart the daemon" in caught.value.advice


def write_once(file: Path) -> None:
    engine = open_database(file, create=True, patience=0.1)
    with usable(file), engine.execution_options(writes=True).begin():
        pass


@pytest.mark.parametrize("lock", ["PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE", "BEGIN IMMEDIATE"])
def test_lock_of_another_program_is_said_in_one_sentence(engine: Engine, file: Path, lock: str) -> None:
    """Whether it holds the file for itself, or just its right to write; the advice is to end it."""
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        for statement in lock.split("; "):
            other.execute(statement)
        with pytest.raises(Problem) as caught:
            write_once(file)
    assert caught.value.code == "queue_unusable"
    assert "is locked" in caught.value.summary
    assert "the other program" in caught.value.advice


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A queue.path that names something else gets a sentence, and is not overwritten."""
    other = tmp_path / "letter.txt"
    other.write_text("Dear operator, this is not a database at all. " * 50)
    with pytest.raises(Problem) as caught:
        open_database(other, create=True)
    assert caught.value.code == "queue_unusable"
    assert other.read_text().startswith("Dear operator")


def test_one_dropped_file_is_one_job(store: Store) -> None:
    """A path has one open row; when its file is filed the path is free for the next exam."""
    first = store.admit(new_job("a.zip"))
    with pytest.raises(AlreadyQueued):
        store.admit(new_job("a.zip"))
    store.end(store.job(first), Status.ERROR, PROBLEM)
    with pytest.raises(AlreadyQueued):
        store.refuse(new_job("a.zip"), PROBLEM)
    store.filed(store.job(first), b"/failed/a.zip")
    assert store.admit(new_job("a.zip")) > first


def test_oldest_is_claimed_first_and_only_one_at_a_time(store: Store) -> None:
    """Begun jobs go before new ones, then the oldest; a worker has one active job."""
    first, second = store.admit(new_job("a.zip")), store.admit(new_job("b.zip"))
    claimed = store.claim("w")
    assert claimed is not None
    assert claimed.id == first
    with pytest.raises(Exception, match="UNIQUE"):
        store.claim("w")
    store.give_back(claimed, attempted=False)
    again = store.claim("w")
    assert again is not None
    assert (again.id, again.attempts) == (first, 1)
    store.end(again, Status.ERROR, PROBLEM)
    other = store.claim("w")
    assert other is not None
    assert other.id == second


def test_move_from_another_state_is_refused(store: Store) -> None:
    """Two hands that move one row: the second is told, and changes nothing."""
    job = store.job(store.admit(new_job("a.zip")))
    store.claim("w")
    with pytest.raises(IllegalMove):
        store.end(job, Status.ABORTED, PROBLEM)
    assert store.job(job.id).status is Status.UPLOADING


def test_arriving_list_is_replaced(store: Store, engine: Engine) -> None:
    """What is seen and not queued is kept by path; what left is gone from it."""
    store.set_arriving({b"/a": Arriving("a", 1, "growing"), b"/b": Arriving("b", 2, "growing")})
    store.set_arriving({b"/b": Arriving("b", 3, "growing")})
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, size FROM arriving")).all()
    assert [tuple(row) for row in rows] == [("b", 3)]


def test_second_daemon_is_refused_and_a_dead_one_is_not_in_the_way(file: Path, engine: Engine) -> None:
    """A running process holds the queue; when it is killed, the next start takes over."""
    program = (
        "import sys; from pathlib import Path; from omrwatchd.queue.database import *;"
        "from omrwatchd.queue.workers import WorkerRow; from omrwatchd.clock import SystemClock;"
        f"f = Path({str(file)!r}); engines = open_database(f, create=True), open_quick(f);"
        "WorkerRow(*engines, SystemClock()).register();"
        "print('registered', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "registered\n"
        quick = open_quick(file)
        row = WorkerRow(engine, quick, SystemClock())
        with pytest.raises(Problem) as caught:
            row.register()
        assert caught.value.code == "queue_in_use"
        assert str(other.pid) in caught.value.summary
        other.kill()
        other.wait()
        row.register()
        quick.dispose()


class QueueMachine(RuleBasedStateMachine):
    """Admissions, claims, acknowledgements, ends and crashes in any order, on a real database."""

    def __init__(self) -> None:
        super().__init__()
        self.engine: Engine | None = None
        self.batches: dict[int, int] = {}
        self.ids: list[int] = []

    @initialize(folder=st.builds(lambda: Path(os.environ["PYTEST_QUEUE_FOLDER"])))
    def open(self, folder: Path) -> None:
        self.file = folder / f"{os.urandom(8).hex()}.db"
        self.engine = open_database(self.file, create=True)
        self.quick = open_quick(self.file)
        self.store = Store(self.engine, SystemClock())
        self.ledger = Ledger(self.engine, self.quick, SystemClock())

    def teardown(self) -> None:
        if self.engine is not None:
            self.engine.dispose()
            self.quick.dispose()

    def active(self) -> Job | None:
        jobs = [self.store.job(job_id) for job_id in self.ids]
        found = [job for job in jobs if job.status in ACTIVE]
        assert len(found) <= 1
        return found[0] if found else None

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def drop(self, name: str) -> None:
        try:
            self.ids.append(self.store.admit(new_job(name)))
        except AlreadyQueued:
            assert os.fsencode(f"/drop/{name}") in self.store.open_paths()

    @precondition(lambda self: self.active() is None)
    @rule()
    def claim(self) -> None:
        waiting = self.store.waiting()
        job = self.store.claim("w")
        assert (job is not None) == (waiting > 0)

    @precondition(lambda self: self.active() is not None)
    @rule(how=st.sampled_from(["deliver", "fail", "give back", "crash"]))
    def go_on(self, how: str) -> None:
        job = self.active()
        assert job is not None
        if how == "crash":
            assert self.store.release_abandoned("w") == [job.id]
        elif how == "give back":
            self.store.give_back(job, attempted=True)
        elif how == "fail":
            self.store.end(job, Status.ERROR, PROBLEM)
        elif job.delivered_at is None:
            self.ledger.batch_created(job.parts[0], f"batch-{job.id}")
            self.batches[job.id] = self.batches.get(job.id, 0) + 1

    @rule()
    def file(self) -> None:
        for job in self.store.unfiled():
            self.store.filed(job, b"/filed/" + str(job.id).encode())
        job = self.active()
        if job is not None and job.delivered_at is not None:
            self.store.filed(job, b"/done/" + str(job.id).encode())

    @invariant()
    def rows_agree(self) -> None:
        if self.engine is None:
            return
        for job in (self.store.job(job_id) for job_id in self.ids):
            delivered = self.batches.get(job.id, 0)
            assert delivered <= 1
            assert (job.delivered_at is not None) == (delivered == 1)
            assert job.status is not Status.COMPLETED or delivered == 1
            assert job.filed_at is None or job.status not in (Status.PENDING, *ACTIVE)


def test_queue_keeps_its_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order of events: one active job, one batch a job, completed only when delivered."""
    monkeypatch.setenv("PYTEST_QUEUE_FOLDER", str(tmp_path))
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        QueueMachine, settings=hypothesis_settings(max_examples=15, stateful_step_count=20, deadline=None)
    )


def test_a_queue_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """A daemon of this version opens an older queue: its jobs are there, the tables are today's."""
    file = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    old = create_engine(f"sqlite:///{file}")
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    old.dispose()
    with pytest.raises(Problem, match=r"older version \(0001\)"):
        Views(file, SystemClock()).snapshot()
    engine = open_database(file, create=True)
    Store(engine, SystemClock()).admit(new_job("a.zip"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()
    assert [job.name for job in Views(file, SystemClock()).snapshot().jobs] == ["a.zip"]


def test_everyday_statements_are_answered_from_indexes(engine: Engine, store: Store, file: Path) -> None:
    """Neither the worker's rounds nor intake's looks nor `status` read the whole history."""
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.extend(row[3] for row in cursor.fetchall())

    store.admit(new_job("a.zip"))
    event.listen(engine, "before_cursor_execute", explain)
    store.waiting(), store.open_paths(), store.waiting_files("default", b"/drop")
    store.unfiled(), store.unsummarised(), store.busy(), store.delivered_before("f" * 64)
    job = store.claim("w")
    assert job is not None
    store.cancel_requested(job.id)
    store.give_back(job, attempted=False)
    event.remove(engine, "before_cursor_execute", explain)
    values = {"limit": 20, "since": 1.0, "fingerprint": "f", "path": b"/x", "id": 9}
    with closing(sqlite3.connect(file)) as connection:
        for name in ("_ACTIVE", "_WAITING", "_NEWEST", "_ENDED_SINCE", "_DELIVERED"):
            statement = f"EXPLAIN QUERY PLAN SELECT * FROM jobs {getattr(views_module, name)}"
            plans += [row[3] for row in connection.execute(statement, values)]
        counted = connection.execute(f"EXPLAIN QUERY PLAN {views_module._AHEAD}", values)
        plans += [row[3] for row in counted]
    assert len(plans) > 15
    assert [plan for plan in plans if plan.startswith("SCAN jobs") and "USING" not in plan] == []
