"""Opening the database: pragmas, transactions, and the schema brought up to date."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from omrwatchd.errors import Problem
from omrwatchd.queue import schema
from omrwatchd.queue.version import BUSY_TIMEOUT_SECONDS, is_newer, other_version, unusable


def open_database(file: Path, *, create: bool, patience: float = BUSY_TIMEOUT_SECONDS) -> Engine:
    """An engine on the queue's database, its schema at schema.HEAD.

    ``patience``: seconds that a statement waits for another's lock.

    Raises:
        Problem: ``queue_unusable`` when the file can't be opened, made, or is from a newer version.
    """
    if create:
        _make_private(file)
    engine = _engine(file, "FULL", patience)
    try:
        with usable(file):
            version = schema_version(engine)
            if version is not None and is_newer(version):
                raise other_version(file, version)
            if version != schema.HEAD and create:
                _make_tables(engine) if version is None else _upgrade(engine)
                version = schema_version(engine)
        if version != schema.HEAD and version is not None:
            raise other_version(file, version)
    except Problem:
        engine.dispose()
        raise
    return engine


def open_quick(file: Path) -> Engine:
    """A second engine for progress and heartbeats: in WAL mode NORMAL does no fsync at a commit."""
    return _engine(file, "NORMAL")


class Changes:
    """Tells whether anybody has written to the queue since it was last asked, for next to nothing.

    SQLite counts the commits of other connections (PRAGMA data_version); elsewhere it may have been.
    One for each that asks; not for several threads at once.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.raw_connection() if engine.dialect.name == "sqlite" else None
        self._version: int | None = None

    def seen(self) -> bool:
        """True at the first time."""
        if self._connection is None:
            return True
        cursor = self._connection.cursor()
        version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
        cursor.close()
        known, self._version = self._version, version
        return known != version

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def schema_version(engine: Engine) -> str | None:
    """The database's Alembic revision; None when it has none yet."""
    with engine.connect() as connection:
        return _version_of(connection)


def _version_of(connection: Connection) -> str | None:
    exists = connection.execute(
        text("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
    ).first()
    if exists is None:
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


@contextmanager
def usable(file: Path) -> Iterator[None]:
    """What the database refuses (a full disk, a lock that stays) is a Problem, ``queue_unusable``."""
    try:
        yield
    except (DatabaseError, sqlite3.Error) as error:
        raise in_words(file, error) or error from error


def in_words(file: Path, error: BaseException) -> Problem | None:
    """What a database's error is to people; None for any other."""
    if isinstance(error, DatabaseError):
        return unusable(file, str(error.orig))
    if isinstance(error, sqlite3.Error):  # of the pragmas, which are said before SQLAlchemy listens
        return unusable(file, str(error))
    return None


def _make_private(file: Path) -> None:
    """Make the file when there is none.

    One that is there is never opened beside SQLite: to close it again would drop the locks of all this
    process's connections to it (fcntl(2), POSIX locks), and the next `status` would, as the last one to
    close, remove the write-ahead log that the daemon goes on writing to.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise unusable(file, error.strerror or str(error)) from error


def _engine(file: Path, synchronous: str, patience: float = BUSY_TIMEOUT_SECONDS) -> Engine:
    engine = create_engine(
        f"sqlite:///{file}",
        connect_args={"timeout": patience, "check_same_thread": False},
        pool_size=8,
        max_overflow=8,
    )

    def configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: sqlite3 would begin too late
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes can't be upgraded when another has written
    # meanwhile (SQLITE_BUSY at once, whatever the timeout); those that will write say so at their start.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_tables(engine: Engine) -> None:
    """A new database, as all migrations together would make it, and stamped as Alembic does."""
    with engine.execution_options(writes=True).begin() as connection:
        if _version_of(connection) is not None:
            return  # another process was quicker
        schema.metadata.create_all(connection)
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": schema.HEAD})


def _upgrade(engine: Engine) -> None:
    # imported here: Alembic costs a fifth of a second and 11 MB that only an old database owes
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
