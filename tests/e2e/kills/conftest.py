"""Daemons that are killed, each at a step that the test names, on a clock ten times as fast as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import Machine

LOOKUP = '\nlookup_path = "/batches/by-upload/{upload_id}"'


class Zygote:
    """Starts daemons that can be killed."""

    def __init__(self, machine: Machine) -> None:
        self._config = str(machine.folder / "config.toml")
        with (machine.folder / "log.jsonl").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.kills.zygote"],
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


@pytest.fixture
def done(machine: Machine) -> Iterator[Callable[[bool], None]]:
    """Makes the done folder, on a disk of its own if that is wanted."""
    folder = machine.folder / "done"
    mounted = False

    def make(other_disk: bool) -> None:
        nonlocal mounted
        folder.mkdir()
        if other_disk:
            mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)]
            mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
            if not mounted:
                pytest.skip("mounting a tmpfs needs root")

    yield make
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
