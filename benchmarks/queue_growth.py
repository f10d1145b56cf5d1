"""What a long history costs: the queue's everyday steps with few and with many finished files.

    python benchmarks/queue_growth.py [--finished 100 100000] [--waiting 1000] [--rounds 30]

For each number of finished files a database is built in a folder of its own, and the medians of a claim, an
update of the progress, a snapshot and a whole `omrwatchd status` process are printed, in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, insert

from omrwatchd.clock import SystemClock
from omrwatchd.model import Identity, NewJob, NewPart, Status
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.schema import jobs, parts
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views

MIB = 1024 * 1024
CONFIG = """
[server]
base_url = "http://127.0.0.1:9/api"
token = "not-used"
[queue]
path = "{folder}/queue.db"
[[watch]]
drop = "{folder}/drop"
"""


def finished_rows(count: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Delivered and filed jobs, one in fifty failed, with a part each."""
    chance = random.Random(1)
    job_rows: list[dict[str, object]] = []
    part_rows: list[dict[str, object]] = []
    for number in range(1, count + 1):
        name, failed = f"exam-{number:06}.zip", chance.random() < 0.02
        status = Status.ERROR if failed else Status.COMPLETED
        ended = 1_700_000_000.0 + number * 60
        size, sheets = chance.randrange(MIB, 200 * MIB), chance.randrange(20, 3000)
        job_rows.append(
            {
                "id": number, "path": f"/srv/scans/done/{name}".encode(), "name": name, "watch": "default",
                "size": size, "mtime_ns": number, "inode": str(number), "upload_type": "zip_with_qr",
                "sheets": sheets, "fingerprint": f"{number:064x}", "status": status, "attempts": 1,
                "error_code": "refused" if failed else None, "created_at": ended - 90,
                "error_summary": "The server said: no such task." if failed else None,
                "started_at": ended - 60, "delivered_at": None if failed else ended - 5,
                "finished_at": ended, "filed_at": ended, "summary_at": ended,
            }
        )  # fmt: skip
        part_rows.append(
            {
                "job_id": number, "index": 0, "name": name, "sheets": sheets, "size": size, "whole": True,
                "first_sheet": 0, "stop_sheet": sheets, "status": status, "bytes_sent": size,
                "batch_id": None if failed else f"batch-{number}",
            }
        )  # fmt: skip
    return job_rows, part_rows


def build(folder: Path, finished: int, waiting: int) -> tuple[Engine, Store]:
    """A queue with a history, and with files that wait."""
    (folder / "drop").mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    engine = open_database(folder / "queue.db", create=True)
    job_rows, part_rows = finished_rows(finished)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(insert(jobs), job_rows)
        connection.execute(insert(parts), part_rows)
    store = Store(engine, SystemClock())
    for number in range(waiting):
        name = f"waiting-{number:04}.zip"
        path = str(folder / "drop" / name).encode()
        part = NewPart(name, 40, 5 * MIB, stop_sheet=40)
        store.admit(NewJob(path, name, "default", Identity(5 * MIB, 1, number), sheets=40, parts=(part,)))
    return engine, store


def median(step: Callable[[], object], rounds: int, undo: Callable[[], object] = lambda: None) -> float:
    """Milliseconds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        step()
        took.append(time.perf_counter() - began)
        undo()
    return statistics.median(took) * 1000


def measure(folder: Path, finished: int, waiting: int, rounds: int) -> dict[str, float]:
    engine, store = build(folder, finished, waiting)
    quick = open_quick(folder / "queue.db")
    ledger, views = Ledger(engine, quick, SystemClock()), Views(folder / "queue.db", SystemClock())
    claimed = store.claim("bench")
    assert claimed is not None
    figures = {
        "progress update": median(lambda: ledger.progress(claimed.parts[0], 1, "bench", None), rounds),
        "cancel asked for": median(lambda: store.cancel_requested(claimed.id), rounds),
    }
    store.give_back(claimed, attempted=False)

    def give_back() -> None:
        store.give_back(store.job(claimed.id), attempted=False)

    figures["claim"] = median(lambda: store.claim("bench"), rounds, give_back)
    figures["accounts owed"] = median(lambda: (store.unfiled(), store.unsummarised(), store.busy()), rounds)
    figures["intake's look"] = median(lambda: (store.waiting(), store.open_paths()), rounds)
    figures["snapshot"] = median(views.snapshot, rounds)
    command = [sys.executable, "-m", "omrwatchd", "--config", str(folder / "config.toml"), "status"]

    def status() -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    figures["status process"] = median(status, max(5, rounds // 3))
    quick.dispose()
    engine.dispose()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--finished", type=int, nargs="+", default=[100, 100_000])
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    figures = {}
    for finished in given.finished:
        with tempfile.TemporaryDirectory(prefix="omrwatchd-growth-") as folder:
            figures[finished] = measure(Path(folder) / "queue", finished, given.waiting, given.rounds)
    few, many = min(figures), max(figures)
    print(f"{given.waiting} waiting; medians of {given.rounds} in ms; finished files:")
    print(f"{'':18}" + "".join(f"{count:>10}" for count in figures) + "    growth")
    for step in figures[few]:
        row = "".join(f"{figures[count][step]:10.2f}" for count in figures)
        print(f"{step:18}{row}{figures[many][step] / figures[few][step]:9.2f}x")


if __name__ == "__main__":
    main()
