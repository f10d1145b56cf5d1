"""The disk of the queue itself is full: the daemon ends with a plain word; nothing is lost or sent twice."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


@pytest.fixture
def state(machine: Machine) -> Iterator[Path]:
    """The state folder, on a small disk of its own."""
    folder = machine.folder / "state"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_of_the_queue(machine: Machine, state: Path) -> None:
    """In mid-upload: exit code 1 and a sentence in the log; the same at a start; with room it goes on."""
    machine.receiver.add_fault(Fault(match="chunk", action="delay", seconds=0.2, times=-1))
    process = machine.start()
    digest = sha256(write_zip(machine.drop / "scan.zip", size=20 * MIB))
    until(lambda: len(machine.log("chunk_acknowledged")) > 4, 30, "some chunks")
    with contextlib.suppress(OSError), (state / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert process.wait(30) == 1
    [death] = machine.log("thread_died")
    assert str(state / "queue.db") in death["error"]
    assert "disk is full" in death["error"]
    assert "free space" in death["error"]
    assert "sqlalche.me" not in death["error"]

    known = len(machine.log("chunk_acknowledged"))
    again = machine.call("run", timeout=30)
    assert again.returncode == 1
    assert "disk is full" in again.stderr
    assert "Traceback" not in again.stderr
    cancel = machine.call("cancel", "1")
    assert cancel.returncode == 1
    assert "disk is full" in cancel.stderr
    assert "Traceback" not in cancel.stderr
    assert machine.names("drop") == ["scan.zip"]

    (state / "ballast").unlink()
    before = len(machine.receiver.requests)
    machine.receiver.clear_faults()
    process = machine.start("--until-idle")
    assert process.wait(60) == 0
    assert [batch.sha256 for batch in machine.receiver.batches] == [digest]
    assert machine.names("done") == ["scan.zip"]
    assert len([r for r in machine.receiver.requests[before:] if r.kind == "chunk"]) == 21 - known
