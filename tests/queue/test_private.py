"""A queue that belongs to another user: one sentence, for readers and for writers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.queue.control import opened_control
from omrwatchd.queue.database import open_database
from omrwatchd.queue.views import Views

NOBODY = 65534


@pytest.fixture(params=["folder", "file"])
def queue(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Closed to us by the rights of its folder, or by its own."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to be somebody else")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    state = tmp_path / "state"
    state.mkdir()
    open_database(state / "queue.db", create=True).dispose()
    if request.param == "folder":
        state.chmod(0o700)
    os.seteuid(NOBODY)
    yield state / "queue.db"
    os.seteuid(0)


def test_it_is_said_in_one_sentence(queue: Path) -> None:
    """No traceback for whoever forgot `sudo`, and no empty list either."""
    with pytest.raises(Problem) as seen:
        Views(queue, SystemClock()).snapshot()
    with pytest.raises(Problem) as changed, opened_control(queue, SystemClock()):
        pass
    assert seen.value == changed.value
    assert seen.value.sentence() == (
        f"The queue {queue} belongs to another user. Use sudo, or be the user that the daemon runs as."
    )
