"""The server goes away for a real minute, in the middle of a file."""

from __future__ import annotations

import time

import pytest

from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


@pytest.mark.timeout(300)
def test_minute_without_a_server_costs_nobody_any_work(machine: Machine) -> None:
    """No acknowledged chunk is sent again, failed/ stays empty, no attempt is counted; said in `status`."""
    digest = sha256(write_zip(machine.drop / "scan.zip", size=40 * MIB))
    machine.configure(upload='\nmax_rate = "8MiB"')
    process = machine.start("--until-idle")
    until(lambda: len(machine.log("chunk_acknowledged")) >= 10, 60, "ten chunks")
    machine.receiver.stop()
    gone = time.monotonic()
    until(lambda: machine.log("queue_held"), 60, "the hold")
    status = machine.status()
    assert status["worker"]["state"] == "held"
    assert "reached" in status["worker"]["reason"]
    assert (status["jobs"][0]["status"], status["jobs"][0]["attempts"]) == ("pending", 0)
    acknowledged = {line["chunk"] for line in machine.log("chunk_acknowledged")}
    until(lambda: time.monotonic() - gone >= 60, 70, "a minute")
    before = len(machine.receiver.requests)
    machine.receiver.start()
    assert process.wait(150) == 0
    sent = [r.chunk_index for r in machine.receiver.requests[before:] if r.kind == "chunk"]
    assert sorted(index for index in sent if index is not None) == sorted(set(range(41)) - acknowledged)
    assert machine.names("failed") == []
    assert machine.names("done") == ["scan.zip"]
    assert [batch.sha256 for batch in machine.receiver.batches] == [digest]
    [line] = machine.summary()
    assert line["attempts"] == 1
    print(
        f"\ndown for {time.monotonic() - gone:.0f} s until the end, {len(acknowledged)} chunks before it, "
        f"{len(sent)} after it"
    )
