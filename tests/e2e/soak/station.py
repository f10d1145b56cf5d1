"""A station in a storm: the daemon as a process, its server, and the people around both."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.e2e.conftest import Machine
from tests.e2e.soak.scanner import MOST_SHEETS, Scanner
from tests.waiting import until

GATE = """
[processing]
status_path = "/processing/status"
busy_field = "queue.busy"
start_path = "/processing/{batch_id}/start"
poll_seconds = 0.5
"""
SERVER = """
connect_timeout = 3
read_timeout = 5"""
LOOKUP = '\nlookup_path = "/batches/by-upload/{upload_id}"'
ODDS = {
    "reset_before": 0.1, "status_before": 0.07, "reset_after": 0.05, "status_after": 0.09, "hang": 0.04,
}  # fmt: skip


class ServerProcess:
    def __init__(self, folder: Path, token: str, seed: str) -> None:
        self.folder = folder
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/api"
        words = [sys.executable, "-m", "tests.e2e.soak.server", str(folder), str(port), token, seed]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "listening"

    def tell(self, **word: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(word), file=self._process.stdin, flush=True)
        assert self._answer() == "done", "the soak's server has died"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def told(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@dataclass(frozen=True)
class Stop:
    at: float
    seconds: float
    code: int


@dataclass
class Station:
    machine: Machine
    server: ServerProcess
    seed: str
    looks_up: bool
    events: list[tuple[float, str]] = field(default_factory=list)
    """What may explain that something is sent once more: when, and what."""
    stops: list[Stop] = field(default_factory=list)
    retried: Counter[str] = field(default_factory=Counter)
    """By the name shown: how often a command has queued it again."""
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}-people")
        self._later: list[tuple[float, dict[str, Any]]] = []
        self._pause = threading.Event()
        self._tokens = 1
        self._configure()
        self._daemon = self.machine.start()

    def _configure(self, chunk_size: str = "1MiB") -> None:
        more = SERVER + (LOOKUP if self.looks_up else "")
        self.machine.configure(
            lookup=more, max_sheets=MOST_SHEETS, chunk_size=chunk_size, direct_limit="1MiB", give_up=3
        )
        config = self.machine.folder / "config.toml"
        config.write_text(GATE + config.read_text())

    # a storm

    ACTIONS: ClassVar = {
        "kill": 8, "terminate": 7, "reload": 4, "away": 4, "busy": 4, "hang": 2, "forget": 1, "rotate": 3,
        "look": 4, "rest": 3, "resume": 8, "cancel": 4, "retry": 4, "retry_failed": 2, "prioritise": 4,
        "nothing": 40,
    }  # fmt: skip

    def storm(self, scanner: Scanner, seconds: float) -> None:
        self.server.tell(odds=ODDS)
        scanner.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends or scanner.is_alive():
            (action,) = self._random.choices(list(self.ACTIONS), list(self.ACTIONS.values()))
            getattr(self, action)()
            self._pause.wait(self._random.uniform(0.02, 0.2))
            self._do_later(time.monotonic())
            assert self._daemon.poll() is None, f"the daemon has ended by itself: {self._daemon.returncode}"
        self._do_later(float("inf"))
        scanner.join()

    def _do_later(self, now: float) -> None:
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, word in due:
            if "file" in word:
                written = self.machine.folder / "token.new"
                written.write_text(word["file"])
                written.rename(self.machine.folder / "token")  # whole at any moment
            elif word.get("resume"):
                self.command("resume")
            else:
                self.server.tell(**word)

    def _in(self, seconds: float, **word: Any) -> None:
        self._later.append((time.monotonic() + seconds, word))

    def note(self, what: str) -> None:
        self.events.append((time.time(), what))

    def nothing(self) -> None: ...

    # to the daemon

    def kill(self) -> None:
        self._daemon.kill()
        self._daemon.wait()
        self.note("kill")
        self._restart()

    def terminate(self) -> None:
        began = time.time()
        self.note("stop")
        self._daemon.send_signal(signal.SIGTERM)
        try:
            code = self._daemon.wait(15)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            code = self._daemon.wait()
        self.stops.append(Stop(began, time.time() - began, code))
        self._restart()

    def _restart(self) -> None:
        self._pause.wait(self._random.choice([0, 0, 0.5]))
        self._daemon = self.machine.start()
        self._pause.wait(self._random.choice([0, 0.3, 1, 2]))

    def reload(self) -> None:
        if self._random.random() < 0.5:
            self._configure(self._random.choice(["1MiB", "2MiB"]))
        if self._hears_signals():
            self.note("reload")
            self._daemon.send_signal(signal.SIGHUP)

    def _hears_signals(self) -> bool:
        """Not before the program itself runs: until then a SIGHUP ends the interpreter."""
        status = Path(f"/proc/{self._daemon.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) & 1 << signal.SIGHUP - 1)

    # to the server

    def away(self) -> None:
        self.note("away")
        self.server.tell(away=True)
        self._in(self._random.uniform(0.1, 4), away=False)

    def busy(self) -> None:
        self.server.tell(busy=True)
        self._in(self._random.uniform(0.5, 4), busy=False)

    def hang(self) -> None:
        self.server.tell(hang=self._random.uniform(0.5, 2))

    def forget(self) -> None:
        self.server.tell(forget=True)

    def rotate(self) -> None:
        self._tokens += 1
        token = f"token-{self._tokens}"
        first, second = self._random.choice(
            [({"token": token}, {"file": token}), ({"file": token}, {"token": token})]
        )
        self.server.tell(coming_token=token)
        self._in(0, **first)
        self._in(self._random.uniform(0.1, 2), **second)

    # people

    def command(self, *words: str) -> str:
        done = self.machine.call(*words, timeout=60)
        if done.returncode not in (0, 1) or "Traceback" in done.stderr or done.stderr.count("\n") > 1:
            self.complaints.append(f"{words}: {done.returncode} {done.stderr}")
        return done.stdout

    def look(self) -> None:
        self.command("status")

    def rest(self) -> None:
        self.command("pause")
        self._in(self._random.uniform(0, 3), resume=True)

    def resume(self) -> None:
        """Impatient people: by itself a hold ends after a while that is long for a soak."""
        self.command("resume")

    def _any(self, *statuses: str) -> dict[str, Any] | None:
        found = [job for job in self.jobs() if job["status"] in statuses]
        return self._random.choice(found) if found else None

    def cancel(self) -> None:
        if (job := self._any("uploading", "pending", "processing", "completed")) is not None:
            self.note("cancel")
            self.command("cancel", str(job["id"]))

    def prioritise(self) -> None:
        if (job := self._any("pending")) is not None:
            self.command("prioritise", str(job["id"]))

    def retry(self) -> None:
        if (job := self._any("error", "aborted")) is not None:
            self._count_retries(self.command("retry", str(job["id"])))

    def retry_failed(self) -> None:
        self._count_retries(self.command("retry", "--failed"))

    def force(self, job: int) -> None:
        self._count_retries(self.command("retry", "--force", str(job)))

    def _count_retries(self, words: str) -> None:
        ends = " is queued again."
        self.retried.update(line.removesuffix(ends) for line in words.splitlines() if line.endswith(ends))

    # in the end

    def jobs(self) -> list[dict[str, Any]]:
        """The rows as they are, with their parts."""
        file = self.machine.folder / "state" / "queue.db"
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as queue,
        ):
            queue.row_factory = sqlite3.Row
            parts = [dict(row) for row in queue.execute('SELECT * FROM parts ORDER BY "index"')]
            rows = [dict(row) for row in queue.execute("SELECT * FROM jobs")]
            return [row | {"parts": [part for part in parts if part["job_id"] == row["id"]]} for row in rows]
        return []

    def drain(self, seconds: float) -> None:
        """Fair weather, until nothing is left to do."""
        self.server.tell(odds={}, busy=False)
        ends = time.monotonic() + seconds
        while self._busy() and time.monotonic() < ends:
            self.command("resume")
            with contextlib.suppress(AssertionError):
                until(lambda: not self._busy(), 5)
        assert not self._busy(), [
            (job["name"], job["status"]) for job in self.jobs() if not job["summary_at"]
        ]

    def _busy(self) -> bool:
        return bool(self.machine.names("drop")) or any(job["summary_at"] is None for job in self.jobs())

    def end(self) -> None:
        began = time.time()
        code = self.machine.stop(self._daemon, 10)
        self.stops.append(Stop(began, time.time() - began, code))
