"""SIGKILL at every step and at random moments: each file ends once, whole, with one line in the summary."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omrwatchd.receiver import Fault
from tests.e2e.conftest import Machine
from tests.zips import sha256, write_zip

pytestmark = pytest.mark.timeout(600)

KILLS = 200
FILES = 40
# a clock ten times as fast as ours runs in the daemons of this test
LOOKUP = '\nlookup_path = "/batches/by-upload/{upload_id}"'


class Zygote:
    """Starts daemons that can be killed."""

    def __init__(self, machine: Machine) -> None:
        self._config = str(machine.folder / "config.toml")
        with (machine.folder / "log.jsonl").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.zygote"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def start(self, kill_at: int | None = None, kill_on: str | None = None) -> int:
        """A running daemon's pid; it ends when nothing is left to do."""
        assert self._process.stdin is not None
        order = {"config": self._config, "kill_at": kill_at, "kill_on": kill_on}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._told()["pid"])

    def ended(self) -> int:
        """The daemon's exit code; -9 when it was killed."""
        return os.waitstatus_to_exitcode(int(self._told()["status"]))

    def _told(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote has ended"
        answer: dict[str, int] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def zygote(machine: Machine) -> Iterator[Zygote]:
    machine.configure(settle=3, direct_limit="1KiB", cooldown=0.5, lookup=LOOKUP)
    running = Zygote(machine)
    yield running
    running.close()


@dataclass
class Way:
    """How the files of a test are made and delivered."""

    settings: dict[str, Any] = field(default_factory=dict)
    parts: int = 1
    other_disk: bool = False

    def drop(self, machine: Machine, name: str, seed: int) -> str:
        """A new file in the drop folder; its SHA-256."""
        made = write_zip(machine.folder / name, size=self.parts * 2_200_000, sheets=2 * self.parts, seed=seed)
        made.rename(machine.drop / name)
        return sha256(machine.drop / name)


WAYS = {
    "whole": Way(),
    "parts": Way({"max_sheets": 2, "upload": '\nedge_chunk_size = "64KiB"'}, parts=2),
    "other disk": Way(other_disk=True),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Way]:
    chosen = WAYS[request.param]
    (machine.folder / "done").mkdir()
    if chosen.other_disk:
        mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(machine.folder / "done")]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a tmpfs needs root")
    machine.configure(settle=3, direct_limit="1KiB", cooldown=0.5, lookup=LOOKUP, **chosen.settings)
    yield chosen
    if chosen.other_disk:
        subprocess.run(["umount", "-l", str(machine.folder / "done")], check=True)


def sheets_of(*archives: Path) -> list[tuple[str, int]]:
    found = []
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            found += [(entry.filename, entry.CRC) for entry in archive.infolist()]
    return found


def delivered(machine: Machine, hashes: dict[str, str], parts: int = 1) -> None:
    """Each file lies in done/ as it was, is one batch (or its parts), and has one line in the summary."""
    assert machine.names("drop") == []
    assert machine.names("failed") == []
    assert machine.names("done") == sorted(hashes)
    assert {name: sha256(machine.folder / "done" / name) for name in hashes} == hashes
    assert sorted(line["name"] for line in machine.summary()) == sorted(hashes)
    batches = {batch.filename: batch for batch in machine.receiver.batches}
    assert len(machine.receiver.batches) == len(batches) == parts * len(hashes)
    for name, digest in hashes.items():
        if parts == 1:
            assert batches[name].sha256 == digest
            continue
        stem = name.removesuffix(".zip")
        made = [batches[f"{stem}.part{number}of{parts}.zip"].path for number in range(1, parts + 1)]
        assert sheets_of(*made) == sheets_of(machine.folder / "done" / name)


def test_killed_at_each_step(machine: Machine, zygote: Zygote, way: Way) -> None:
    """Before each commit and each change of a folder, one file a step; the next start makes it good."""
    hashes: dict[str, str] = {}
    survived = 0
    for step in range(1, 200):
        name = f"scan-{step:03}.zip"
        hashes[name] = way.drop(machine, name, step)
        zygote.start(kill_at=step)
        code = zygote.ended()
        assert code in (0, -signal.SIGKILL)
        zygote.start()
        assert zygote.ended() == 0
        delivered(machine, hashes, way.parts)
        survived += code == 0
        if survived == 2:  # the steps of a whole run are through
            break
    print(f"\nkilled at each of {len(hashes) - survived} steps")
    assert len(hashes) - survived >= 20


@pytest.mark.parametrize("way", ["whole", "parts"], indirect=True)
def test_killed_at_random_moments(machine: Machine, zygote: Zygote, way: Way) -> None:
    """Two hundred times, over forty files, with a server that answers some chunks slowly."""
    machine.receiver.add_fault(Fault(match="chunk", action="delay", seconds=0.03, times=-1))
    source = random.Random(20261123)
    hashes: dict[str, str] = {}
    pause = threading.Event()
    killed = 0
    for round_ in range(10 * KILLS):
        if killed >= KILLS:
            break
        if len(hashes) < FILES and round_ % 4 == 0:
            name = f"scan-{len(hashes):03}.zip"
            hashes[name] = way.drop(machine, name, len(hashes))
        pid = zygote.start()
        pause.wait(source.uniform(0.02, 0.6))
        with contextlib.suppress(ProcessLookupError):  # it was done already
            os.kill(pid, signal.SIGKILL)
        killed += zygote.ended() == -signal.SIGKILL
    zygote.start()
    assert zygote.ended() == 0
    print(f"\n{killed} kills over {len(hashes)} files")
    assert killed == KILLS
    delivered(machine, hashes, way.parts)


def test_direct_upload_killed_at_each_step(machine: Machine, zygote: Zygote) -> None:
    """Once or, where the answer was lost, reviewed: it can't be looked up; never a second batch."""
    machine.configure(settle=3, direct_limit="2MiB", cooldown=0.5, lookup="")
    reviewed = survived = 0
    for step in range(1, 200):
        name = f"scan-{step:03}.zip"
        digest = sha256(write_zip(machine.drop / name, size=200_000, seed=step))
        zygote.start(kill_at=step)
        survived += zygote.ended() == 0
        zygote.start()
        assert zygote.ended() == 0
        made = [batch for batch in machine.receiver.batches if batch.sha256 == digest]
        [line] = [line for line in machine.summary() if line["name"] == name]
        if line["status"] == "completed":
            assert len(made) == 1
            assert sha256(machine.folder / "done" / name) == digest
        else:
            assert line["error"]["code"] == "outcome_unknown"
            assert len(made) <= 1
            assert sha256(machine.folder / "failed" / name) == digest
            reviewed += 1
        if survived == 2:
            break
    print(f"\nkilled at each of {step - survived} steps, {reviewed} to be reviewed")
    assert machine.receiver.duplicate_batches == []
    assert machine.names("drop") == []
    assert 0 < reviewed < 5


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
