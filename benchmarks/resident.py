"""What it costs to have the daemon: its memory, its delays between files, its idling, its start.

    python -m benchmarks.resident [memory] [delays] [idle] [start] [--folder DIR] [--rounds 5]

The daemon is the whole one, as a process; the server is the sink of compiled code, TLS, on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.queue_growth import build
from benchmarks.split import make_zip
from benchmarks.wire.daemon import Daemon
from benchmarks.wire.sink import Sink, needed

MB = 1_000_000
SETTLE, COOLDOWN = 2.0, 4.0
WAITING = 10_000
IDLE_SECONDS = 60.0


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def memory(folder: Path, rounds: int) -> None:
    """The peak of the resident memory while files of 1 GB and 7 GB go out, and from the start on."""
    del rounds  # a peak is one
    with Sink(folder) as sink, Daemon(folder / "daemon", sink.tls, sink.ca) as daemon:
        started = daemon.memory()
        peaks = []
        for size in (1000 * MB, 7000 * MB):
            path = folder / "scan.zip"
            make_zip(path, size, 512)
            daemon.reset_peak()
            daemon.deliver(path, f"scan-{size}.zip")
            peaks.append(daemon.memory())
            path.unlink()
    row("memory", "MB", "limit")
    row("---", "---:", "---:")
    row("peak until READY, a new queue made", f"{started:.1f}", "80")
    row("peak, 1 GB file", f"{peaks[0]:.1f}", "80")
    row("peak, 7 GB file", f"{peaks[1]:.1f}", "80")
    row("7 GB over 1 GB", f"{peaks[1] - peaks[0]:+.1f}", "+5")


def delays(folder: Path, rounds: int) -> None:
    """From the close of a file to its first byte at the server; from one file's last answer to the next."""
    noticed, between, reconnected = [], [], 0
    path = folder / "scan.zip"
    make_zip(path, 150 * MB, 64)
    with (
        Sink(folder) as sink,
        Daemon(folder / "daemon", sink.tls, sink.ca, settle=SETTLE, cooldown=COOLDOWN) as daemon,
    ):
        drop, done = daemon.folder / "drop", daemon.folder / "done"
        for number in range(rounds + 1):
            sink.stats()
            with (drop / f"a-{number}.zip").open("wb") as file:
                file.write(path.read_bytes())
            closed = time.monotonic()
            begun = 2 * number + 1
            daemon.until(lambda begun=begun: len(daemon.events("upload_started")) == begun, "an upload")
            os.link(path, drop / f"b-{number}.zip")  # settles while the first goes out and the cooldown runs
            daemon.until((done / f"a-{number}.zip").exists, "the first file in done/")
            first = sink.stats()
            daemon.until((done / f"b-{number}.zip").exists, "the second file in done/")
            second = sink.stats()
            assert first["batches"] == second["batches"] == 1, (first, second)
            if number:  # the first round makes the connections
                noticed.append(first["first_request"] - closed - SETTLE)
                between.append(second["first_request"] - first["last_answer"] - COOLDOWN)
                reconnected += first["handshakes"] + second["handshakes"]
            time.sleep(COOLDOWN + 0.5)
    row(f"delays, {rounds} rounds of two files, s", "median", "worst", "limit")
    row("---", "---:", "---:", "---:")
    row("close to first byte, above the settle time", *_both(noticed), "0.5")
    row("between two files, above the cooldown", *_both(between), "0.1")
    row("TLS handshakes after the first file", reconnected, reconnected, "0")


def _both(seconds: list[float]) -> tuple[str, str]:
    return f"{statistics.median(seconds):.3f}", f"{max(seconds):.3f}"


def idle(folder: Path, rounds: int) -> None:
    """A minute with 10,000 files waiting outside a full queue; then one with nothing at all.

    Beside it a bare loop that wakes as often: what is slow after each rest is so on that machine.
    """
    del rounds
    row("idling for a minute", "% of a core", "bytes to disk", "writing calls")
    row("---", "---:", "---:", "---:")
    with Sink(folder) as sink:
        for name, files in ((f"{WAITING:,} files outside a full queue", WAITING), ("nothing there", 0)):
            own = folder / f"files-{files}"
            with Daemon(own, sink.tls, sink.ca, queue="max_files = 10") as daemon:
                if files:
                    daemon.command("pause")
                    fill(own, daemon, files)
                time.sleep(10)  # what the last file set going
                cpu, (disk, calls) = daemon.cpu(), daemon.writes()
                bare = bare_loop(own / "state" / "queue.db")
                used, (disk_now, calls_now) = daemon.cpu() - cpu, daemon.writes()
            row(name, f"{used / IDLE_SECONDS:.3%}", disk_now - disk, calls_now - calls)
            row("a bare loop beside it", f"{bare / IDLE_SECONDS:.3%}", "", "")
    row("limit", "0.100%", "0", "")


def bare_loop(database: Path) -> float:
    """CPU seconds of this thread, which asks the queue once a second whether it was changed, and no more."""
    with contextlib.closing(sqlite3.connect(database)) as queue:
        end, used = time.monotonic() + IDLE_SECONDS, time.thread_time()
        while time.monotonic() < end:
            queue.execute("PRAGMA data_version").fetchone()
            time.sleep(1)
        return time.thread_time() - used


def fill(own: Path, daemon: Daemon, files: int) -> None:
    make_zip(own / "one.zip", 10_000, 2)
    for number in range(files):
        path = own / f".{number}"
        path.write_bytes((own / "one.zip").read_bytes())
        path.rename(own / "drop" / f"scan-{number:05}.zip")
    daemon.until(lambda: "queue is full" in daemon.command("status", "--json"), "a full queue")


def start(folder: Path, rounds: int) -> None:
    """From the start of the process to READY=1, with a long history and a full drop folder."""
    row("start to READY, s", "median", "worst", "limit")
    row("---", "---:", "---:", "---:")
    for finished, files in ((100, 0), (100_000, WAITING)):
        own = folder / f"history-{finished}"
        own.mkdir()
        engine, _ = build(own / "queue", finished, 0)
        engine.dispose()
        make_zip(own / "one.zip", 10_000, 2)
        for number in range(files):
            os.link(own / "one.zip", own / "queue" / "drop" / f"new-{number:05}.zip")
        took = [ready_after(own) for _ in range(rounds)]
        row(f"{finished:,} finished jobs, {files:,} files in the drop folder", *_both(took), "1")


def ready_after(own: Path) -> float:
    """Seconds; the daemon is killed then, so that it finds the same again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        address = own / "notify"
        heard.bind(str(address))
        heard.settimeout(60)
        command = [sys.executable, "-m", "omrwatchd", "--config", own / "queue" / "config.toml", "run"]
        began = time.monotonic()
        with (own / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            while b"READY=1" not in heard.recv(4096):
                pass
            return time.monotonic() - began
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            address.unlink()


PARTS: dict[str, Callable[[Path, int], None]] = {
    "memory": memory,
    "delays": delays,
    "idle": idle,
    "start": start,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made; default: a temporary folder")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    needed()
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="resident-", dir=asked.folder) as folder:
            PARTS[name](Path(folder), asked.rounds)
        print()


if __name__ == "__main__":
    main()
