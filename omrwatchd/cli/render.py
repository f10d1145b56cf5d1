"""A snapshot of the queue as a table for people; fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omrwatchd.model import ACTIVE, Job, Part, Status, WorkerState
from omrwatchd.queue.views import Snapshot, WorkerView, bytes_sent, job_document

STYLES = {
    Status.PENDING: "dim",
    Status.UPLOADING: "cyan",
    Status.PROCESSING: "magenta",
    Status.COMPLETED: "green",
    Status.ERROR: "bold red",
    Status.ABORTED: "yellow",
}
ID_CELLS = 4
NAME_CELLS = 28
BAR_CELLS = 11


def table(snapshot: Snapshot, cooldown_seconds: float = 5.0) -> RenderableType:
    """The worker's state and why, then each file, then what is arriving."""
    rows: list[RenderableType] = [headline(snapshot.worker, cooldown_seconds), Text("")]
    if snapshot.jobs:
        rows.append(files(snapshot.jobs))
    if snapshot.arriving:
        rows += [Text(""), _arriving(snapshot)]
    if len(rows) == 2:
        rows.append(Text("No files.", style="dim"))
    return Group(*rows)


def headline(worker: WorkerView, cooldown_seconds: float) -> RenderableType:
    """One line: what the daemon is doing, and why."""
    line = Text("omrwatchd ", style="bold").append(str(worker.state), style="bold " + _tone(worker.state))
    if worker.rate is not None and worker.state is WorkerState.UPLOADING:
        line.append(f" at {size(round(worker.rate))}/s")
    if worker.reason:
        line.append(f": {clean(worker.reason)}")
    if worker.state is not WorkerState.COOLDOWN or worker.cooldown_left <= 0:
        return line
    whole = max(cooldown_seconds, worker.cooldown_left)
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=whole, completed=whole - worker.cooldown_left, width=20)
    grid.add_row(line, bar, Text(f"{worker.cooldown_left:.1f} s"))
    return grid


def _tone(state: WorkerState) -> str:
    if state is WorkerState.HELD:
        return "red"
    return "yellow" if state in (WorkerState.PAUSED, WorkerState.STOPPED) else "cyan"


def files(jobs: Sequence[Job], *, header: bool = True) -> RenderableType:
    """Rows of fixed widths; a sentence about a file stands below its row, over the whole width."""
    blocks: list[RenderableType] = []
    grid = _grid(header=header)
    for job in jobs:
        grid.add_row(
            str(job.id),
            Text(shortened(job.name, NAME_CELLS)),
            str(job.sheets) if job.sheets else "",
            size(job.identity.size),
            Text(str(job.status), style=STYLES[job.status]),
            _progress(job.status, bytes_sent(job), job.identity.size),
        )
        if len(job.parts) > 1:
            for part in job.parts:
                _add_part(grid, part)
        if (note := _note(job)) is not None:
            blocks += [grid, Padding(note, (0, 0, 0, ID_CELLS + 1))]
            grid = _grid(header=False)
    return Group(*blocks, grid)


def _grid(*, header: bool) -> Table:
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_header=header)
    grid.add_column("Id", justify="right", no_wrap=True, width=ID_CELLS)
    grid.add_column("Name", no_wrap=True, width=NAME_CELLS)
    grid.add_column("Sheets", justify="right", no_wrap=True, width=6)
    grid.add_column("Size", justify="right", no_wrap=True, width=10)
    grid.add_column("Status", no_wrap=True, width=10)
    grid.add_column("Progress", no_wrap=True, width=BAR_CELLS + 5)
    return grid


def _add_part(grid: Table, part: Part) -> None:
    grid.add_row(
        "",
        Text(f"  part {part.index + 1}", style="dim"),
        str(part.sheets),
        size(part.size),
        Text(str(part.status), style=STYLES[part.status]),
        _progress(part.status, part.bytes_sent, part.size),
    )


def _progress(status: Status, sent: int, whole: int) -> RenderableType:
    if status not in ACTIVE and sent == 0:
        return Text("")
    share = 1.0 if status is Status.COMPLETED else sent / max(1, whole)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=share, width=BAR_CELLS - 1), Text(f"{share:4.0%}"))
    return grid


def _note(job: Job) -> Text | None:
    """What went wrong, or the batches of a file."""
    problem = job_document(job)["error"]
    if problem is not None:
        return Text(clean(f"{problem['summary']} {problem['advice']}".strip()), style="red")
    if job.batch_ids:
        return Text(clean("batch " + ", ".join(job.batch_ids)), style="dim", overflow="fold")
    return None


def _arriving(snapshot: Snapshot) -> Table:
    grid = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    grid.add_column("Arriving", no_wrap=True, width=NAME_CELLS)
    grid.add_column("Size", justify="right", no_wrap=True)
    grid.add_column("Why it waits", overflow="fold")
    for file in snapshot.arriving:
        grid.add_row(Text(shortened(file.name, NAME_CELLS)), size(file.size), Text(clean(file.why)))
    return grid


def summary_table(jobs: Sequence[Job]) -> RenderableType:
    """Finished files, and a line of totals."""
    delivered = [job for job in jobs if job.status is Status.COMPLETED]
    sheets, amount = sum(j.sheets for j in delivered), sum(j.identity.size for j in delivered)
    totals = Text(f"{len(jobs)} files: {len(delivered)} delivered with {sheets} sheets and {size(amount)}")
    failed = len(jobs) - len(delivered)
    totals.append(f", {failed} failed", style="bold red" if failed else "")
    return Group(files(jobs), Text(""), totals)


def size(amount: int) -> str:
    """Bytes as people read them."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def clean(text: str) -> str:
    """No control character of a hostile name reaches a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(name: str, cells: int) -> str:
    """A name within ``cells`` columns of a terminal, its middle left out: beginnings and endings tell."""
    text = Text(clean(name))
    if text.cell_len <= cells:
        return text.plain
    head, tail = text.plain, text.plain
    while Text(head).cell_len > cells - cells // 2 - 1:
        head = head[:-1]
    while Text(tail).cell_len > cells // 2:
        tail = tail[1:]
    return f"{head}…{tail}"
