"""The whole daemon, one process for all rounds, as systemd would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CONFIG = """
[server]
base_url = "{base}"
token_file = "{folder}/token"
{ca}
[upload]
chunk_size = {chunk}
{more}
[queue]
path = "{folder}/state/queue.db"
cooldown_seconds = {cooldown}
duplicates = "upload"
{queue}
[summary]
path = "{folder}/state/summary.jsonl"
[log]
format = "json"
level = "info"
[[watch]]
drop = "{folder}/drop"
settle_seconds = {settle}
"""


class Daemon:
    """Running, idle, with a warmed-up interpreter."""

    def __init__(
        self,
        folder: Path,
        base: str,
        ca: Path,
        *,
        chunk: int = 50 * 1024 * 1024,
        settle: float = 0.5,
        cooldown: float = 0,
        more: str = "",
        queue: str = "",
        within: tuple[str, ...] = (),
    ) -> None:
        """``more`` and ``queue``: further lines of the sections [upload] and [queue]."""
        self.folder = folder
        (folder / "drop").mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text("token\n")
        trust = f'ca_file = "{ca}"' if base.startswith("https") else ""
        (folder / "config.toml").write_text(
            CONFIG.format(
                base=base,
                folder=folder,
                ca=trust,
                chunk=chunk,
                more=more,
                queue=queue,
                cooldown=cooldown,
                settle=settle,
            )
        )
        self._log = (folder / "log.jsonl").open("ab")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [
                *within,
                *(sys.executable, "-m", "omrwatchd", "--config", folder / "config.toml", "run"),
            ],
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.until(lambda: bool(self.events("daemon_started")), "the daemon's start")

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, condition: Any, what: str, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{what} did not come; see {self.folder / 'log.jsonl'}")
            time.sleep(0.02)

    def command(self, *words: str) -> str:
        """One of the product's commands on this queue; what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "omrwatchd", "--config", self.folder / "config.toml", *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def events(self, name: str) -> list[dict[str, Any]]:
        needle = f'"{name}"'
        with (self.folder / "log.jsonl").open() as log:
            found = [json.loads(line) for line in log if needle in line and line.endswith("}\n")]
        return [line for line in found if line["event"] == name]

    def cpu(self) -> float:
        """Seconds used until now (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory(self, key: str = "VmHWM") -> float:
        """Resident memory in MB, its peak since the last reset."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith(key))

    def writes(self) -> tuple[int, int]:
        """Bytes that were made to go to a disk until now, and calls that write anywhere (proc_pid_io(5))."""
        found = Path(f"/proc/{self.pid}/io").read_text().splitlines()
        figures = {key: int(value) for key, value in (line.split(": ") for line in found)}
        return figures["write_bytes"], figures["syscw"]

    def reset_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def deliver(self, file: Path, name: str) -> None:
        """Drop a hard link of the file and wait until it is filed."""
        os.link(file, self.folder / name)
        os.rename(self.folder / name, self.folder / "drop" / name)
        self.until(lambda: (self.folder / "done" / name).exists(), f"{name} in done/")
        os.unlink(self.folder / "done" / name)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self._log.close()
