"""A station on disk whose folders, rights, queue and server are spoilt for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.ops.doctor import Finding, Level, Token, examine, find_token
from omrwatchd.receiver import Receiver
from omrwatchd.settings import MIB, Settings

TOKEN = "t0p-s3cret-token"


@dataclass
class Patient:
    """A station to be examined; `outputs` has all that was ever said of it."""

    folder: Path
    receiver: Receiver
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    def settings(self) -> Settings:
        table: dict[str, dict[str, Any]] = {
            "server": {"base_url": self.receiver.base_url, "token": TOKEN},
            "upload": {"chunk_size": MIB, "direct_limit": 2 * MIB},
            "queue": {"path": self.folder / "state" / "queue.db"},
            "summary": {"path": self.folder / "state" / "summary.jsonl"},
        }
        for name, values in self.sections.items():
            table[name] = table.get(name, {}) | values
        return Settings(watch=({"drop": self.drop} | self.watch,), **table)  # type: ignore[arg-type]

    def examine(self, *, upload: bool = False, token: Token | Problem | None = None) -> dict[str, Finding]:
        """Findings by name; the worst of each name."""
        settings = self.settings()
        found: dict[str, Finding] = {}
        token = find_token(settings.server) if token is None else token
        for finding in examine(settings, token, SystemClock(), upload=upload):
            self.outputs.append(f"{finding.summary} {finding.advice}")
            if finding.name not in found or finding.level is not Level.OK:
                found[finding.name] = finding
        return found

    def configure(self, extra: str = "") -> None:
        (self.folder / "config.toml").write_text(
            f'[server]\nbase_url = "{self.receiver.base_url}"\ntoken_file = "{self.folder}/token"\n'
            f'[queue]\npath = "{self.folder}/state/queue.db"\n'
            f'[summary]\npath = "{self.folder}/state/summary.jsonl"\n'
            f'[[watch]]\ndrop = "{self.drop}"\n{extra}'
        )
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "token").chmod(0o644)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "omrwatchd", "--config", str(self.folder / "config.toml"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.outputs += [done.stdout, done.stderr]
        return done

    def examine_as_other_user(self) -> dict[str, dict[str, str]]:
        """By the command, with the rights of a user who owns nothing here."""
        rights = ("--user", "nobody") if os.geteuid() == 0 else ()
        done = self.call("doctor", "--json", *rights)
        assert done.returncode in (0, 1), done.stderr
        return {finding["name"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture
def patient() -> Iterator[Patient]:
    """Every test with it also shows that no output ever holds the token."""
    # not tmp_path, which no other user may enter
    folder = Path(tempfile.mkdtemp(prefix="omrwatchd-doctor-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        for name in ("drop", "done", "failed", "state"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        with Receiver(folder / "server", token=TOKEN) as receiver:
            station = Patient(folder, receiver)
            yield station
        assert TOKEN not in "".join(station.outputs)
    finally:
        shutil.rmtree(folder)
