"""What may be tried again, and what would only fail or be delivered wrongly."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.model import Identity, NewJob, NewPart, Status
from omrwatchd.queue.control import Control
from omrwatchd.queue.database import open_database
from omrwatchd.queue.figures import read_figures
from omrwatchd.queue.store import Store


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(tmp_path / "queue.db", create=True)


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, SystemClock())


@pytest.fixture
def control(engine: Engine) -> Control:
    return Control(engine, SystemClock())


def a_zip(folder: Path, name: str = "a.zip") -> NewJob:
    path = folder / name
    path.write_bytes(b"PK")
    return NewJob(
        os.fsencode(path), name, "default", Identity(2, 1, 1), sheets=3, parts=(NewPart(name, 3, 2),)
    )


@pytest.mark.parametrize(
    ("code", "forced", "said"),
    [
        ("task_missing", None, "can't be tried again as it is: It needs a task"),
        ("encrypted_zip", None, "then drop it into the drop folder again."),
        ("sheets_differ", Status.PENDING, "use --force"),
        ("duplicate", Status.PENDING, "use --force"),
    ],
)
def test_what_intake_refused_is_not_sent_as_it_is(
    tmp_path: Path, store: Store, control: Control, code: str, forced: Status | None, said: str
) -> None:
    """Without a task it would go to the wrong one; only what a person may know better is overruled."""
    job = store.refuse(a_zip(tmp_path), Problem(code, "It needs a task.", "Give one."))
    with pytest.raises(Problem) as refused:
        control.retry(job)
    assert said in refused.value.sentence()
    assert store.job(job).status is Status.ERROR
    if forced is None:
        with pytest.raises(Problem):
            control.retry(job, force=True)
    else:
        control.retry(job, force=True)
        assert store.job(job).status is forced
    [done] = control.retry_failed() or [None]
    assert (done is None) is (forced is not None)
    assert done is None or "is left: " in done.words


def test_file_that_is_gone_is_not_queued_again(tmp_path: Path, store: Store, control: Control) -> None:
    """Somebody took it out of failed/: said at once, and in words that name the folder."""
    job = store.admit(a_zip(tmp_path))
    assert store.claim("here") is not None
    store.end(store.job(job), Status.ERROR, Problem("refused", "The server said: no.", ""))
    (tmp_path / "a.zip").unlink()
    with pytest.raises(Problem) as refused:
        control.retry(job)
    assert refused.value.summary == f"a.zip can't be tried again: it is not in {tmp_path} any more."
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "queued again" in control.retry(job).words


@pytest.mark.parametrize("number", [0, -1, 1 << 63, 10**30])
def test_numbers_that_are_no_ids(control: Control, number: int) -> None:
    """However large, an id that is none gets the same sentence."""
    for command in (control.cancel, control.retry, control.prioritise, control.remove):
        with pytest.raises(Problem) as refused:
            command(number)
        assert refused.value.code == "unknown_id"


def test_a_command_to_a_stopped_daemon_says_when_it_is_heeded(
    tmp_path: Path, store: Store, control: Control
) -> None:
    """A daemon that crashed in mid-upload ends it at its next start; nobody is told that it goes on now."""
    job = store.admit(a_zip(tmp_path))
    store.claim("a daemon that is gone")
    assert control.cancel(job).words == "a.zip is being cancelled, as soon as the daemon runs again."


def test_job_tried_again_waits_since_then(tmp_path: Path, store: Store, control: Control) -> None:
    """A file of last week that is sent once more has not been waiting for a week: no alert comes of it."""
    job = store.admit(a_zip(tmp_path))
    store.note(job, created_at=time.time() - 7 * 86_400)
    store.claim("here")
    store.end(store.job(job), Status.ERROR, Problem("refused", "The server said: no.", ""))
    began = time.time()
    control.retry(job)
    figures = read_figures(tmp_path / "queue.db", SystemClock())
    assert figures is not None
    assert figures.oldest_waiting is not None
    assert figures.oldest_waiting >= began
