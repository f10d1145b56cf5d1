"""The product as it is installed: `omrwatchd run` as a process, against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omrwatchd.receiver import Receiver
from tests.waiting import until

CONFIG = """
[server]
base_url = "{base_url}"
token_file = "{folder}/token"{lookup}
[split]
max_sheets = {max_sheets}
[upload]
chunk_size = "{chunk_size}"
direct_limit = "{direct_limit}"{upload}
[queue]
path = "{folder}/state/queue.db"
cooldown_seconds = {cooldown}
[summary]
path = "{folder}/state/summary.jsonl"
[log]
level = "debug"
format = "json"
[[watch]]
drop = "{folder}/drop"
settle_seconds = {settle}
give_up_seconds = {give_up}{watch}
"""


@dataclass
class Machine:
    """A scanner station in a folder."""

    folder: Path
    receiver: Receiver
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    def configure(self, **values: Any) -> None:
        given = {
            "base_url": self.receiver.base_url,
            "folder": self.folder,
            "chunk_size": "1MiB",
            "direct_limit": "2MiB",
            "cooldown": 0.2,
            "give_up": 600,
            "settle": 0.5,
            "lookup": "",
            "upload": "",
            "max_sheets": 3000,
            "watch": "",
        } | values
        (self.folder / "config.toml").write_text(CONFIG.format(**given))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "omrwatchd", "--config", str(self.folder / "config.toml"), *words]

    def call(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log.jsonl").open("ab") as log:
            process = subprocess.Popen(self.command("run", *words), stderr=log, stdin=subprocess.DEVNULL)
        self.running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], seconds: float = 5.0) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def status(self) -> dict[str, Any]:
        done = self.call("status", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        file = self.folder / "log.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if event in (None, line["event"])]

    def summary(self) -> list[dict[str, Any]]:
        file = self.folder / "state" / "summary.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def await_summary(self, lines: int, seconds: float = 60.0) -> list[dict[str, Any]]:
        until(lambda: len(self.summary()) >= lines, seconds, f"{lines} summary lines")
        return self.summary()

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, but for our own status text."""
        place = self.folder / folder
        found = os.listdir(place) if place.is_dir() else []
        return sorted(name for name in found if name != "_omrwatchd-status.txt")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "drop").mkdir()
    (tmp_path / "token").write_text("right-token\n")
    with Receiver(tmp_path / "server", token="right-token") as receiver:
        station = Machine(tmp_path, receiver)
        station.configure()
        yield station
        for process in station.running:
            if process.poll() is None:
                process.kill()
            process.wait()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole processes take their time: `pytest -m 'not slow'` leaves them out."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.slow)
