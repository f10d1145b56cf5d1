"""SIGKILL at every step and at random moments: each file ends once, whole, with one line in the summary."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omrwatchd.receiver import Fault
from tests.e2e.conftest import Machine
from tests.e2e.kills.conftest import LOOKUP, Zygote
from tests.zips import sha256, write_zip

pytestmark = pytest.mark.timeout(600)

KILLS = 200
FILES = 40


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
def way(request: pytest.FixtureRequest, machine: Machine, done: Callable[[bool], None]) -> Way:
    chosen = WAYS[request.param]
    done(chosen.other_disk)
    machine.configure(settle=3, direct_limit="1KiB", cooldown=0.5, lookup=LOOKUP, **chosen.settings)
    return chosen


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
