"""A stop is heard at any moment, and over in time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import Any

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip


def open_files(process: subprocess.Popen[bytes]) -> list[str]:
    folder = f"/proc/{process.pid}/fd"
    links = [os.path.join(folder, name) for name in os.listdir(folder)]
    return [os.readlink(link) for link in links if os.path.lexists(link)]


def seconds_to_stop(machine: Machine, process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    assert machine.stop(process, 10.0) == 0
    return time.monotonic() - began


def test_stop_while_the_start_waits_for_a_lock_is_heard(machine: Machine) -> None:
    """Another program has the queue: the start waits for it inside SQLite, and no stop waits with it."""
    assert machine.start("--until-idle").wait(30) == 0
    with closing(sqlite3.connect(machine.folder / "state" / "queue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        process = machine.start()
        until(lambda: any(name.endswith("queue.db") for name in open_files(process)), what="an open queue")
        assert seconds_to_stop(machine, process) < 1.0


@pytest.mark.parametrize(("status", "event"), [(503, "chunk_retried"), (429, "server_slowed_down")])
def test_stop_before_another_try_of_the_last_request_is_over_at_once(
    machine: Machine, status: int, event: str
) -> None:
    """The server has refused the whole request, so no answer is awaited any more."""
    retry_after = 60 if status == 429 else None
    machine.receiver.add_fault(Fault(match="upload", action="status", status=status, retry_after=retry_after))
    write_zip(machine.drop / "scan.zip")
    process = machine.start()
    until(lambda: machine.log(event), what=event)
    assert seconds_to_stop(machine, process) < 1.0
    machine.receiver.clear_faults()
    assert machine.start("--until-idle").wait(60) == 0
    assert len(machine.receiver.batches) == 1


GATE = """
[processing]
status_path = "/processing/status"
busy_field = "queue.busy"
start_path = "/processing/{batch_id}/start"
"""
SILENT = {"action": "delay", "seconds": 60.0}
STATES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "idle": ("daemon_started", None),
    "held by an outage": ("queue_held", {"match": "upload", "action": "status", "status": 521}),
    "held by a wrong token": ("queue_held", {"match": "upload", "action": "token"}),
    "cooling down": ("cooldown_started", None),
    "busy": ("processing_busy", None),
    "silent gate": ("batch_created", {"match": "status", **SILENT}),
    "silent to a chunk": ("chunk_acknowledged", {"match": "chunk", "chunk_index": 1, **SILENT}),
    "between two tries": (
        "chunk_retried",
        {"match": "chunk", "chunk_index": 1, "action": "cut", "times": -1},
    ),
    "slow line": ("upload_started", None),
}


@pytest.mark.parametrize("state", STATES)
def test_stop_is_over_at_once_in_each_state(machine: Machine, state: str) -> None:
    """Whatever the daemon waits for but a last answer; and the next run goes on from there."""
    event, fault = STATES[state]
    rate = '\nmax_rate = "64KiB"' if state == "slow line" else ""
    machine.configure(cooldown=60 if state == "cooling down" else 0, direct_limit="1MiB", upload=rate)
    config = machine.folder / "config.toml"
    config.write_text((GATE if "gate" in state or state == "busy" else "") + config.read_text())
    if fault is not None:
        machine.receiver.add_fault(Fault(**fault))
    machine.receiver.busy_polls = 1000 if state == "busy" else 0
    large = (fault is not None and fault["match"] == "chunk") or state == "slow line"
    process = machine.start()
    if state != "idle":
        write_zip(machine.drop / "scan.zip", size=3 * MIB if large else 3_000)
    until(lambda: machine.log(event), what=event)
    assert seconds_to_stop(machine, process) < 1.0
