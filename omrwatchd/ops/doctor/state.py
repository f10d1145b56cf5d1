"""What the daemon keeps: the queue's database and the summary log; and whether it runs now."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.model import WorkerState
from omrwatchd.ops import preflight
from omrwatchd.ops.doctor.finding import Finding, fail, failed, ok, reason_of, warn
from omrwatchd.queue import health
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings

_RESTORE = (
    "Stop the daemon, keep a copy of the file, and put the newest backup in its place "
    "(docs/OPERATIONS.md, Backup, upgrade, rollback)."
)


def examine_state(settings: Settings, clock: Clock) -> Iterator[Finding]:
    queue = examine_queue(settings.queue_file)
    yield queue
    yield from _summary(settings.summary_file)
    if queue.level != "fail":
        yield daemon(settings.queue_file, clock)


def examine_queue(file: Path) -> Finding:
    """Its place, its file system, its integrity and its schema version."""
    checks = (preflight.file_place("queue.path", file), preflight.on_network("queue.path", file))
    for problem in itertools.chain(*checks):
        return failed("queue", problem)
    if not os.path.exists(file):
        return ok("queue", f"There is no queue {file} yet; the daemon makes it at its first start.")
    try:
        found = health.examine(file)
    except OSError as error:
        return fail("queue", f"The queue {file} can't be used: {reason_of(error)}.", _RESTORE)
    return _judged(file, found)


def _judged(file: Path, found: health.Health) -> Finding:
    if found.complaints:
        return fail("queue", f"The queue {file} is damaged: {found.complaints[0]}.", _RESTORE)
    if found.version is not None and found.version > found.newest_version:
        return fail(
            "queue",
            f"The queue {file} is of a newer version ({found.version}) than this program knows "
            f"({found.newest_version}).",
            "Install the newer omrwatchd again, or go back to the backup made before the upgrade.",
        )
    if found.version != found.newest_version:
        return ok("queue", f"The queue {file} is sound; the daemon brings it up to date at its next start.")
    return ok("queue", f"The queue {file} is sound: version {found.version}, {found.jobs} files on record.")


def daemon(queue: Path, clock: Clock) -> Finding:
    """Whether a daemon works on this queue now, and is free to."""
    try:
        worker = Views(queue, clock).snapshot().worker
    except Problem as problem:  # an older schema: the next start brings it up to date
        return ok("daemon", f"Not running, as far as can be told. {problem.summary}")
    if worker.state is WorkerState.STOPPED:
        return ok("daemon", "Not running.")
    if worker.state is WorkerState.HELD:
        return warn(
            "daemon",
            f"Running, but the queue is held: {worker.reason}",
            "It goes on by itself when this is mended; `omrwatchd resume` makes it try at once.",
        )
    if worker.state is WorkerState.PAUSED:
        return warn("daemon", "Running, but paused by an operator.", "omrwatchd resume")
    return ok("daemon", f"Running: {worker.state}.")


def _summary(file: Path) -> Iterator[Finding]:
    problem = next(iter(preflight.file_place("summary.path", file)), None)
    yield (
        ok("summary", f"The summary log {file} can be written.")
        if problem is None
        else failed("summary", problem)
    )
