"""SIGKILL at the processing gate."""

from __future__ import annotations

import signal

from tests.e2e.conftest import Machine
from tests.e2e.kills.conftest import Zygote
from tests.zips import write_zip


def test_killed_between_a_start_of_processing_and_its_record(machine: Machine, zygote: Zygote) -> None:
    """The next daemon asks first, waits while the server works, and starts under the same key alone."""
    text = (machine.folder / "config.toml").read_text()
    gate = """[processing]
status_path = "/processing/status"
busy_field = "queue.busy"
start_path = "/processing/{batch_id}/start"
poll_seconds = 1
"""
    (machine.folder / "config.toml").write_text(gate + text)
    write_zip(machine.drop / "scan.zip", size=200_000)
    zygote.start(kill_on="UPDATE parts SET started_at")
    assert zygote.ended() == -signal.SIGKILL
    [batch] = machine.receiver.batches
    assert batch.started
    assert machine.status()["jobs"][0]["status"] == "processing"
    before = len(machine.receiver.requests)
    machine.receiver.busy_polls = 2  # the server works on that very batch
    zygote.start()
    assert zygote.ended() == 0
    requests = machine.receiver.requests
    assert [r.kind for r in requests[before:] if r.kind != "probe"] == ["status", "status", "status", "start"]
    assert len({r.idempotency_key for r in requests if r.kind == "start"}) == 1
    assert machine.receiver.batches == [batch]
    assert machine.names("done") == ["scan.zip"]
    [line] = machine.summary()
    assert (line["status"], line["batch_ids"]) == ("completed", [batch.batch_id])
