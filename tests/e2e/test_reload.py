"""What a reload must leave as it was."""

from __future__ import annotations

import os
import signal

from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip


def test_nothing_committed_after_a_reload_is_forgotten(machine: Machine) -> None:
    """A look from outside, then a kill: the delivery is in the queue, and no connection is left over."""
    daemon = machine.start()

    def open_queues() -> list[str]:
        folder = f"/proc/{daemon.pid}/fd"
        links = [os.path.join(folder, name) for name in os.listdir(folder)]
        return [
            os.readlink(link) for link in links if os.path.lexists(link) and "queue.db" in os.readlink(link)
        ]

    until(lambda: machine.log("daemon_started"), 20, "start")
    before = len(open_queues())
    for number in range(1, 6):
        daemon.send_signal(signal.SIGHUP)
        until(lambda count=number: len(machine.log("config_reloaded")) == count, 20, "reload")  # type: ignore[misc]
    assert machine.status()["worker"]["state"] != "stopped"
    assert machine.call("pause").returncode == machine.call("resume").returncode == 0
    assert not [name for name in open_queues() if name.endswith("(deleted)")]
    assert len(open_queues()) <= 2 * before
    write_zip(machine.drop / "scan.zip")
    machine.await_summary(1)
    daemon.kill()
    daemon.wait()
    assert [job["status"] for job in machine.status()["jobs"]] == ["completed"]
