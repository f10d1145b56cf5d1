"""The station that the documents' examples are about: one file delivered, one failed, two waiting."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.receiver import Receiver
from tests.waiting import until
from tests.zips import write_zip

SCANS, STATE = "/srv/scans", "/var/lib/omrwatchd"
"""Where the documents have the folders and the queue; here they are in a temporary one."""
CONFIG = """
[server]
base_url = "{base_url}"
token_file = "{folder}/token"
[queue]
path = "{folder}/queue.db"
cooldown_seconds = 0.1
[summary]
path = "{folder}/summary.jsonl"
[[watch]]
drop = "{folder}/scans/drop"
settle_seconds = 0.3
give_up_seconds = 0.5
"""


@dataclass
class Station:
    folder: Path

    def _here(self, command: str) -> str:
        return command.replace(SCANS, str(self.folder / "scans")).replace(STATE, str(self.folder))

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A line of a document, by the shell, as somebody would type it."""
        programs = Path(sys.executable).parent
        environment = os.environ | {
            "OMRWATCHD_CONFIG": str(self.folder / "config.toml"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "COLUMNS": "110",
        }
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", self._here(command)],
            env=environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def statuses(self) -> dict[str, str]:
        document = json.loads(self.run("omrwatchd status --json").stdout)
        return {job["name"]: job["status"] for job in document["jobs"]}

    def until(self, **wanted: str) -> None:
        """Wait for files, named without .zip, to be in a status."""
        until(
            lambda: all(self.statuses().get(f"{n.replace('_', '-')}.zip") == s for n, s in wanted.items()),
            what=str(wanted),
        )


@contextlib.contextmanager
def station(folder: Path) -> Iterator[Station]:
    """A daemon that works, and is paused before the last two files come."""
    drop = folder / "scans" / "drop"
    drop.mkdir(parents=True)
    (folder / "token").write_text("right-token")
    with Receiver(folder / "server", token="right-token") as receiver:
        (folder / "config.toml").write_text(CONFIG.format(base_url=receiver.base_url, folder=folder))
        here = Station(folder)
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "omrwatchd", "--config", str(folder / "config.toml"), "run"],
                stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            write_zip(drop / "math-10a.zip", sheets=40, size=30_000)
            here.until(math_10a="completed")
            (drop / "physics-9b.zip").write_bytes(b"PK\x03\x04 cut off")
            here.until(physics_9b="error")
            here.run("omrwatchd pause")
            for name in ("history-8c.zip", "biology-7d.zip"):
                write_zip(drop / name, sheets=20, size=30_000)
                here.until(**{name.removesuffix(".zip").replace("-", "_"): "pending"})
            yield here
        finally:
            daemon.terminate()
            daemon.wait(10)


_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[tuple[str, int]]:
    """The lines behind a `$` in the document's console blocks, each with the exit code it should have.

    That is 0, unless a comment says otherwise: `$ omrwatchd doctor  # exits 1`.
    """
    found = []
    for block in _BLOCK.findall(document.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                expected = re.search(r"# exits (\d+)$", line)
                found.append((line[2:], int(expected[1]) if expected else 0))
    return found
