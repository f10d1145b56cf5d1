"""`omrwatchd status --watch`: the list with its bars, alive; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omrwatchd.cli.render import clean, headline, shortened, size
from omrwatchd.cli.rows import FileRows
from omrwatchd.model import ACTIVE, FINAL, Job, Status, WorkerState
from omrwatchd.queue.views import Snapshot, Views, bytes_sent

FRAME_SECONDS = 0.25
PLAIN_SECONDS = 1.0


def watch(views: Views, cooldown_seconds: float) -> None:
    """Show the queue until `q` or Ctrl-C."""
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if console.is_terminal and sys.stdin.isatty():
            _alive(console, views, cooldown_seconds)
        else:
            _plain(views)


def _alive(console: Console, views: Views, cooldown_seconds: float) -> None:
    with (
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            snapshot = views.snapshot()
            live.update(frame(snapshot, cooldown_seconds, console.size.height), refresh=True)
            if pressed(FRAME_SECONDS) in ("q", "Q", "\x03"):
                return


@contextlib.contextmanager
def _keys() -> Iterator[_Pressed]:
    """Single keys from the terminal, which is as it was afterwards."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _Pressed()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Pressed:
    def __call__(self, seconds: float) -> str:
        """The key that was pressed within so many seconds; '' when none was."""
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""


def frame(snapshot: Snapshot, cooldown_seconds: float, height: int) -> RenderableType:
    """One picture of at most ``height`` lines: state, what goes on, what comes, what is finished."""
    unfinished = [job for job in snapshot.jobs if job.status not in FINAL]
    unfinished.sort(key=lambda job: job.status not in ACTIVE)
    finished = [job for job in snapshot.jobs if job.status in FINAL]
    room = max(3, height - 8 - min(4, len(snapshot.arriving)))
    waiting_rows = _fitting_jobs(unfinished, max(2, room // 2))
    room -= sum(map(_lines, waiting_rows))
    rows: list[RenderableType] = [headline(snapshot.worker, cooldown_seconds), _outlook(snapshot, unfinished)]
    if waiting_rows:
        rows += [Text(""), FileRows(waiting_rows)]
    if (more := len(unfinished) - len(waiting_rows)) > 0:
        rows.append(Text(f"     … and {more} more", style="dim"))
    rows += _arriving(snapshot)
    newest = _fitting_jobs(finished[::-1], room)
    if newest:
        rows += [Text(""), Text("Finished, newest first", style="dim"), FileRows(newest, header=False)]
    rows.append(Text("q ends this", style="dim"))
    return Group(*rows)


def _lines(job: Job) -> int:
    """How many lines a job takes at 80 columns, nearly."""
    problem = 0 if job.problem is None else 1 + len(job.problem.summary + job.problem.advice) // 74
    return 1 + (len(job.parts) if len(job.parts) > 1 else 0) + problem + bool(job.batch_ids)


def _fitting_jobs(jobs: list[Job], lines: int) -> list[Job]:
    found: list[Job] = []
    for job in jobs:
        lines -= _lines(job)
        if lines < 0 and found:
            break
        found.append(job)
    return found


def _outlook(snapshot: Snapshot, unfinished: list[Job]) -> RenderableType:
    """A bar for the whole queue, how much is left, and how long that takes at the present rate."""
    if not unfinished:
        return Text("Nothing waits.", style="dim")
    whole = sum(job.identity.size for job in unfinished)
    left = sum(max(0, job.identity.size - bytes_sent(job)) for job in unfinished)
    words = f"{len(unfinished)} to go, {size(left)} left"
    rate = snapshot.worker.rate
    if rate and snapshot.worker.state is WorkerState.UPLOADING:
        active = next((job for job in unfinished if job.status is Status.UPLOADING), None)
        if active is not None:
            own = max(0, active.identity.size - bytes_sent(active))
            words += f": this one in {_duration(own / rate)}"
        words += f", all in {_duration(left / rate)}"
    elif snapshot.worker.state in (WorkerState.HELD, WorkerState.PROCESSING) and snapshot.worker.since:
        when = datetime.fromtimestamp(snapshot.worker.since).strftime("%Y-%m-%d %H:%M:%S")
        words += f"; {snapshot.worker.state} since {when}"
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        ProgressBar(total=max(1, whole), completed=whole - left, width=12),
        Text(words, style="dim", overflow="fold"),
    )
    return grid


def _arriving(snapshot: Snapshot) -> list[RenderableType]:
    if not snapshot.arriving:
        return []
    lines: list[RenderableType] = [Text("")]
    for file in snapshot.arriving[:2]:
        words = f"{shortened(file.name, 28)}: {clean(file.why)}"
        lines.append(Text(f"arriving {words}", style="dim", no_wrap=True, overflow="ellipsis"))
    if (more := len(snapshot.arriving) - 2) > 0:
        lines.append(Text(f"     … and {more} more arriving", style="dim"))
    return lines


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _plain(views: Views) -> None:
    """One line a change: for pipes, logs, and terminals that are none."""
    told: set[str] = set()
    while True:
        lines = _told_of(views.snapshot())
        for line in lines:
            if line not in told:
                print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
        told = set(lines)
        time.sleep(PLAIN_SECONDS)


def _told_of(snapshot: Snapshot) -> list[str]:
    worker = snapshot.worker
    lines = [f"omrwatchd {worker.state}{f': {clean(worker.reason)}' if worker.reason else ''}"]
    for job in snapshot.jobs:
        line = f"{job.id} {clean(job.name)} {job.status}"
        if job.status is Status.UPLOADING:
            line += f" {bytes_sent(job) * 10 // max(1, job.identity.size) * 10} %"
        if job.status in FINAL:
            line += f" {clean(job.problem.summary) if job.problem else ', '.join(job.batch_ids)}"
        lines.append(line)
    return lines
