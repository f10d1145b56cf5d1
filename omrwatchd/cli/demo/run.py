"""Plays the demo, shows it live, and checks what arrived."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from omrwatchd.cli.demo.scene import Exam, Scanner, make_exams
from omrwatchd.cli.render import summary_table, table
from omrwatchd.clock import SystemClock
from omrwatchd.model import FINAL, Status, WorkerState
from omrwatchd.queue.views import Snapshot, Views
from omrwatchd.receiver import Fault, Receiver

DEADLINE_SECONDS = 90.0
FRAME_SECONDS = 0.1
COOLDOWN_SECONDS = 3.0
TOKEN = "demo-token"
CHUNK_SECONDS = 1.2
"""The server takes its time with each chunk, or loopback would be too quick to see anything."""
CONFIG = """
[server]
base_url = "{base_url}"
token_file = "{folder}/token"
[queue]
path = "{folder}/state/queue.db"
cooldown_seconds = {cooldown}
[processing]
status_path = "/processing/status"
busy_field = "queue.busy"
start_path = "/processing/{{batch_id}}/start"
poll_seconds = 1
[summary]
path = "{folder}/state/summary.jsonl"
[log]
format = "json"
[[watch]]
drop = "{folder}/drop"
settle_seconds = 1.5
give_up_seconds = 4
"""


def run_demo(keep: bool) -> int:
    """The whole road on loopback; 0 when every good ZIP arrived whole and the bad one is in failed/.

    Nothing is left behind unless ``keep``.
    """
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="omrwatchd-demo-"))
    try:
        return _Demo(folder, console).play()
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 1
    finally:
        if keep:
            console.print(f"Everything is kept in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._clock = SystemClock()
        self._never = threading.Event()
        self._views = Views(folder / "state" / "queue.db", self._clock)

    def play(self) -> int:
        (self._folder / "drop").mkdir()
        (self._folder / "token").write_text(TOKEN)
        self._console.print("Drawing answer sheets …")
        exams = make_exams(self._folder / "scanner")
        with Receiver(self._folder / "server", token=TOKEN) as receiver:
            receiver.add_fault(Fault(match="chunk", action="delay", seconds=CHUNK_SECONDS, times=-1))
            receiver.busy_polls = 2
            (self._folder / "config.toml").write_text(
                CONFIG.format(base_url=receiver.base_url, folder=self._folder, cooldown=COOLDOWN_SECONDS)
            )
            self._console.print(
                f"A server listens on {receiver.base_url}; a scanner saves {len(exams)} ZIPs into drop/.\n"
            )
            exit_code = self._watch_daemon(exams)
            checks = self._checks(exams, receiver, exit_code)
        return self._report(checks)

    def _watch_daemon(self, exams: list[Exam]) -> int | None:
        """Run the daemon until every exam has ended, then stop it; its exit code (None: too slow)."""
        with (self._folder / "log.jsonl").open("wb") as log:
            daemon = subprocess.Popen(
                self._command(), stderr=log, stdin=subprocess.DEVNULL, env=_environment()
            )
        scanner = Scanner(exams, self._folder / "drop")
        try:
            scanner.start()
            in_time = self._show_until(lambda snapshot: self._all_over(snapshot, exams, daemon))
            daemon.send_signal(signal.SIGTERM)
            exit_code = daemon.wait(10)
            return exit_code if in_time else None
        finally:
            scanner.switch_off()
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "omrwatchd", "--config", str(self._folder / "config.toml"), "run"]

    def _all_over(self, snapshot: Snapshot, exams: list[Exam], daemon: subprocess.Popen[bytes]) -> bool:
        if daemon.poll() is not None:
            return True
        ended = [job for job in snapshot.jobs if job.status in FINAL and job.summary_at is not None]
        return len(ended) >= len(exams) and snapshot.worker.state is WorkerState.IDLE

    def _show_until(self, over: Callable[[Snapshot], bool]) -> bool:
        """Show the queue until it is over; False when that took too long."""
        deadline = self._clock.monotonic() + DEADLINE_SECONDS
        teller = _Teller(self._console)
        while self._clock.monotonic() < deadline:
            snapshot = self._views.snapshot()
            teller.tell(snapshot)
            if over(snapshot):
                teller.end()
                return True
            self._clock.wait(self._never, FRAME_SECONDS)
        teller.end()
        return False

    # what came of it

    def _checks(self, exams: list[Exam], receiver: Receiver, exit_code: int | None) -> list[tuple[bool, str]]:
        arrived = {batch.filename: batch for batch in receiver.batches}
        checks = []
        for exam in exams:
            if exam.good:
                batch = arrived.get(exam.name)
                same = batch is not None and batch.sha256 == exam.sha256 and batch.started
                filed = (self._folder / "done" / exam.name).exists()
                checks.append(
                    (same and filed, f"{exam.name} arrived whole: SHA-256 {exam.sha256[:16]}…, in done/")
                )
            else:
                reason = self._folder / "failed" / f"{exam.name}.error.txt"
                refused = reason.exists() and exam.name not in arrived
                words = reason.read_text().splitlines()[2] if refused else "no reason was written"
                checks.append((refused, f"{exam.name} is in failed/: {words}"))
        lines = (self._folder / "state" / "summary.jsonl").read_text().splitlines() if arrived else []
        checks.append(
            (len(lines) == len(exams), f"the summary log has a line for each of {len(exams)} files")
        )
        checks.append((len(receiver.batches) == sum(e.good for e in exams), "no batch came twice"))
        left = [name for name in os.listdir(self._folder / "drop") if name.endswith(".zip")]
        checks.append((not left, "no ZIP is left in the drop folder"))
        checks.append((exit_code == 0, f"the daemon stopped cleanly (exit code {exit_code})"))
        return checks

    def _report(self, checks: list[tuple[bool, str]]) -> int:
        self._console.print()
        self._console.print(summary_table(self._views.finished()))
        self._console.print()
        for good, words in checks:
            mark = Text("ok    ", style="green") if good else Text("FAILED", style="bold red")
            self._console.print(Text.assemble(mark, " ", words))
        if all(good for good, _ in checks):
            return 0
        self._console.print("\nThe daemon's last log lines:")
        for line in (self._folder / "log.jsonl").read_text(errors="replace").splitlines()[-15:]:
            self._console.print(Text(line))
        return 1


class _Teller:
    """Live bars in a terminal; elsewhere a line whenever something has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10) if console.is_terminal else None
        if self._live is not None:
            self._live.start()
        self._told: set[str] = set()

    def tell(self, snapshot: Snapshot) -> None:
        if self._live is not None:
            self._live.update(self._frame(snapshot))
            return
        for line in _lines(snapshot):
            if line not in self._told:
                self._told.add(line)
                self._console.print(Text(line))

    def _frame(self, snapshot: Snapshot) -> RenderableType:
        return Group(table(snapshot, COOLDOWN_SECONDS))

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()


def _lines(snapshot: Snapshot) -> list[str]:
    """What is worth a line each, once: arrivals, states, and every fifth of an upload."""
    lines = [f"arriving    {file.name}: {file.why}" for file in snapshot.arriving]
    for job in snapshot.jobs:
        line = f"{job.status:<11} {job.name}"
        if job.status is Status.UPLOADING:
            share = sum(part.bytes_sent for part in job.parts) / max(1, job.identity.size)
            line += f" {int(share * 5) * 20} %"
        if job.problem is not None:
            line += f": {job.problem.summary}"
        lines.append(line)
    if snapshot.worker.state is WorkerState.COOLDOWN:
        done = sum(job.status is Status.COMPLETED for job in snapshot.jobs)
        lines.append(f"cooldown    after {done} delivered")
    return lines


def _environment() -> dict[str, str]:
    """The caller's settings and proxies do not reach the demo's daemon."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OMRWATCHD_") and not name.lower().endswith("_proxy")
    }
