"""A snapshot of the queue for people; fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omrwatchd.cli.rows import NAME_CELLS, FileRows, clean, counted, shortened, size, why
from omrwatchd.model import ACTIVE, Job, Status, WorkerState
from omrwatchd.queue.views import Snapshot, WorkerView

WORDS = {
    WorkerState.IDLE: "waits for files",
    WorkerState.PAUSED: "`omrwatchd resume` ends this",
    WorkerState.STOPPED: "the daemon does not run, so nothing is delivered",
}
"""What a state means, where the daemon gives no reason of its own."""

__all__ = ["clean", "headline", "shortened", "size", "summary_table", "table"]


def table(snapshot: Snapshot, cooldown_seconds: float = 5.0) -> RenderableType:
    """The worker's state and why, then each file, then what is arriving."""
    rows: list[RenderableType] = [headline(snapshot.worker, cooldown_seconds, _under_way(snapshot)), Text("")]
    if snapshot.jobs:
        rows.append(FileRows(snapshot.jobs))
    if snapshot.arriving:
        rows += [Text(""), _arriving(snapshot)]
    if len(rows) == 2:
        rows.append(Text("No files.", style="dim"))
    return Group(*rows)


def headline(worker: WorkerView, cooldown_seconds: float, under_way: bool = False) -> RenderableType:
    """One line: what the daemon is doing, and why."""
    line = Text("omrwatchd ", style="bold").append(str(worker.state), style="bold " + _tone(worker.state))
    if worker.rate is not None and worker.state is WorkerState.UPLOADING:
        line.append(f" at {size(round(worker.rate))}/s")
    line.append(also_paused(worker, under_way), style="bold yellow")
    if words := worker.reason or WORDS.get(worker.state, ""):
        line.append(f": {clean(words)}")
    if worker.state is not WorkerState.COOLDOWN or worker.cooldown_left <= 0:
        return line
    whole = max(cooldown_seconds, worker.cooldown_left)
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=whole, completed=whole - worker.cooldown_left, width=20)
    grid.add_row(line, bar, Text(f"{worker.cooldown_left:.1f} s"))
    return grid


def also_paused(worker: WorkerView, under_way: bool) -> str:
    """What follows the state when an operator's `pause` is still to show: a file under way goes on first."""
    if not worker.paused or worker.state in (WorkerState.PAUSED, WorkerState.STOPPED):
        return ""
    if worker.state is WorkerState.HELD:
        return ", and paused"
    return ", paused after this file" if under_way else ", then paused"


def _under_way(snapshot: Snapshot) -> bool:
    return any(job.status in ACTIVE for job in snapshot.jobs)


def _tone(state: WorkerState) -> str:
    if state is WorkerState.HELD:
        return "red"
    return "yellow" if state in (WorkerState.PAUSED, WorkerState.STOPPED) else "cyan"


def _arriving(snapshot: Snapshot) -> Table:
    grid = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    grid.add_column("Arriving", no_wrap=True, width=NAME_CELLS)
    grid.add_column("Size", justify="right", no_wrap=True)
    grid.add_column("Why it waits", overflow="fold")
    for file in snapshot.arriving:
        grid.add_row(
            Text(shortened(file.name, NAME_CELLS)),
            size(file.size),
            Text(why(file)),
        )
    return grid


def summary_table(jobs: Sequence[Job]) -> RenderableType:
    """Finished files, and a line of totals."""
    delivered = [job for job in jobs if job.status is Status.COMPLETED]
    sheets, amount = sum(j.sheets for j in delivered), sum(j.identity.size for j in delivered)
    totals = Text(f"{counted(len(jobs), 'file')}: {len(delivered):,} delivered with ")
    totals.append(f"{counted(sheets, 'sheet')} and {size(amount)}")
    failed = sum(job.status is Status.ERROR for job in jobs)
    totals.append(f", {failed:,} failed", style="bold red" if failed else "")
    if aborted := sum(job.status is Status.ABORTED for job in jobs):
        totals.append(f", {aborted:,} aborted", style="yellow")
    return Group(FileRows(jobs), Text(""), totals)
