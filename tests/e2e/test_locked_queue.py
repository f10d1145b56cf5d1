"""Another program holds the lock of the queue for longer than a statement waits: plain words, no loss."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_lock_that_stays_ends_the_daemon_with_a_sentence_and_costs_no_file(machine: Machine) -> None:
    """Exit code 1, for systemd to start it again; so does a start under the lock, and a command says it."""
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "idle")
    with closing(sqlite3.connect(machine.folder / "state" / "queue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        digest = sha256(write_zip(machine.drop / "scan.zip"))
        assert machine.status()["worker"]["state"] == "idle"  # who only looks is in nobody's way
        pause = machine.call("pause")
        assert process.wait(40) == 1
        again = machine.call("run")
        other.execute("ROLLBACK")
    for refused in (pause, again):
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "database is locked. End the other program that has it open" in refused.stderr
    assert {death["error"] for death in machine.log("thread_died")} == {
        pause.stderr.removeprefix("omrwatchd: ").strip()
    }
    process = machine.start("--until-idle")
    assert process.wait(60) == 0
    assert [batch.sha256 for batch in machine.receiver.batches] == [digest]
    assert machine.names("done") == ["scan.zip"]
