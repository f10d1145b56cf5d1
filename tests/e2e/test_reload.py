"""What a reload must leave as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip


def open_queues(pid: int) -> list[str]:
    """Where the descriptors of a process lead that are of a queue's files."""
    folder = f"/proc/{pid}/fd"
    links = [os.path.join(folder, name) for name in os.listdir(folder)]
    return [os.readlink(link) for link in links if os.path.lexists(link) and "queue.db" in os.readlink(link)]


def test_nothing_committed_after_a_reload_is_forgotten(machine: Machine) -> None:
    """A look from outside, then a kill: the delivery is in the queue, and no connection is left over."""
    daemon = machine.start()
    until(lambda: machine.log("daemon_started"), 20, "start")
    before = len(open_queues(daemon.pid))
    for number in range(1, 6):
        daemon.send_signal(signal.SIGHUP)
        until(lambda count=number: len(machine.log("config_reloaded")) == count, 20, "reload")  # type: ignore[misc]
    assert machine.status()["worker"]["state"] != "stopped"
    assert machine.call("pause").returncode == machine.call("resume").returncode == 0
    assert not [name for name in open_queues(daemon.pid) if name.endswith("(deleted)")]
    assert len(open_queues(daemon.pid)) <= 2 * before
    write_zip(machine.drop / "scan.zip")
    machine.await_summary(1)
    daemon.kill()
    daemon.wait()
    assert [job["status"] for job in machine.status()["jobs"]] == ["completed"]


def test_refused_reload_leaves_nothing_open(machine: Machine) -> None:
    """A certificate that is none shows only when all is made anew; what was made by then is given back."""
    daemon = machine.start()
    until(lambda: machine.log("daemon_started"), 20, "start")
    before = len(open_queues(daemon.pid))
    config = machine.folder / "config.toml"
    no_ca = machine.folder / "ca.pem"
    no_ca.write_text("none\n")
    config.write_text(config.read_text().replace("[server]", f'[server]\nca_file = "{no_ca}"'))
    for number in range(1, 9):
        daemon.send_signal(signal.SIGHUP)
        until(lambda count=number: len(machine.log("config_refused")) == count, 20, "refusal")  # type: ignore[misc]
        machine.status()
    assert {event["code"] for event in machine.log("config_refused")} == {"ca_file_unusable"}
    assert len(open_queues(daemon.pid)) <= 2 * before


@pytest.mark.parametrize("size", [3_000, 2 * MIB], ids=["in one request", "in chunks"])
def test_reload_waits_for_a_last_answer(machine: Machine, size: int) -> None:
    """Nobody has to look whether a batch exists because somebody had the configuration read again."""
    file = write_zip(machine.folder / "scan.zip", size=size)
    last = (
        {"match": "chunk", "chunk_index": file.stat().st_size // MIB} if size > MIB else {"match": "upload"}
    )
    machine.receiver.add_fault(Fault(action="delay", seconds=6.0, **last))  # type: ignore[arg-type]
    daemon = machine.start()
    file.rename(machine.drop / "scan.zip")
    await_last_bytes(machine)
    daemon.send_signal(signal.SIGHUP)
    [line] = machine.await_summary(1)
    assert line["status"] == "completed"
    until(lambda: machine.log("config_reloaded"), 20, "reload")
    names = [event["event"] for event in machine.log()]
    assert names.index("batch_created") < names.index("config_reloaded")
    assert len(machine.receiver.batches) == 1


def test_stop_is_not_held_up_by_a_reload(machine: Machine) -> None:
    """A reload that waits for an answer gives way to a stop, which has 5 s."""
    machine.receiver.add_fault(Fault(match="upload", action="delay", seconds=60.0))
    daemon = machine.start()
    write_zip(machine.drop / "scan.zip")
    await_last_bytes(machine)
    daemon.send_signal(signal.SIGHUP)
    assert machine.stop(daemon) == 0
    assert not machine.log("config_reloaded")


def await_last_bytes(machine: Machine) -> None:
    """Until the queue has it that the request which makes the batch goes out, as another process sees it."""
    until(lambda: machine.log("upload_started"), 20, "an upload")
    with contextlib.closing(sqlite3.connect(machine.folder / "state" / "queue.db")) as queue:
        found = "SELECT 1 FROM parts WHERE final_sent_at IS NOT NULL"
        until(lambda: queue.execute(found).fetchone(), 20, "the last bytes to go out")
