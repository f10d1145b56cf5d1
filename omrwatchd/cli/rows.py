"""Jobs as rows of fixed columns, drawn without a layout engine: a thousand of them take some milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from omrwatchd.model import ACTIVE, Arriving, Job, Status
from omrwatchd.queue.views import bytes_sent, job_document

STYLES = {
    Status.PENDING: "dim",
    Status.UPLOADING: "cyan",
    Status.PROCESSING: "magenta",
    Status.COMPLETED: "green",
    Status.ERROR: "bold red",
    Status.ABORTED: "yellow",
}
ID_CELLS, NAME_CELLS, SHEETS_CELLS, SIZE_CELLS, STATUS_CELLS = 4, 28, 6, 10, 10
BAR_CELLS = 10
WIDTH = 79
"""Of a row whose name has NAME_CELLS; the name has what a terminal is wider or narrower."""
WIDEST_NAME = 70
_LEAST_NAME = 8
_NARROWEST = WIDTH + 1 - NAME_CELLS + _LEAST_NAME
"""Columns that all of a row needs."""
_PLAIN = Style()


class FileRows:
    """Rows of jobs; a sentence about a file stands below its row, over the whole width.

    ``notes`` are such sentences by the job's id, before the job's own; without ``parts`` those of a split
    file have no rows.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        header: bool = True,
        parts: bool = True,
        notes: Mapping[int, str] | None = None,
    ) -> None:
        self._jobs = jobs
        self._header = header
        self._parts = parts
        self._notes = notes or {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name_cells = max(_LEAST_NAME, min(WIDEST_NAME, NAME_CELLS + options.max_width - WIDTH - 1))
        # of a terminal too narrow for all columns the bars give way: the percent tells the same
        cells = max(0, min(BAR_CELLS, BAR_CELLS + options.max_width - _NARROWEST))
        blunt = options.ascii_only
        if self._header:
            yield from _row("Id", "Name", "Sheets", "Size", name_cells, _style("dim"))
            progress = " Progress" if cells > 3 else ""
            yield Segment(f"{'Status':{STATUS_CELLS}}{progress}", _style("dim"))
            yield Segment.line()
        for job in self._jobs:
            sheets = f"{job.sheets:,}" if job.sheets else ""
            yield from _row(str(job.id), job.name, sheets, size(job.identity.size), name_cells, _PLAIN)
            yield from _progress(job.status, bytes_sent(job), job.identity.size, cells, blunt)
            for part in job.parts if self._parts and len(job.parts) > 1 else ():
                name = f"  part {part.index + 1} of {len(job.parts)}"
                yield from _row("", name, f"{part.sheets:,}", size(part.size), name_cells, _style("dim"))
                yield from _progress(part.status, part.bytes_sent, part.size, cells, blunt)
                if part.batch_id is not None:
                    batch = Text(clean(f"batch {part.batch_id}"), style="dim", overflow="fold")
                    yield from console.render(_indented(batch, 2), options)
            for note in self._notes_of(job):
                yield from console.render(_indented(note), options)

    def _notes_of(self, job: Job) -> list[Text]:
        """What is said below a row: how it goes, what went wrong, or the batches; and when it ended."""
        found = [Text(self._notes[job.id], style="cyan")] if job.id in self._notes else []
        ended = "" if job.finished_at is None else f"{datetime.fromtimestamp(job.finished_at):%Y-%m-%d %H:%M}"
        problem = job_document(job)["error"] if job.problem or job.filing_problem else None
        if problem is not None:
            words = f"{problem['summary']} {problem['advice']}".strip() + (f" ({ended})" if ended else "")
            found.append(Text(clean(words), style="red"))
        elif words := ", ".join(filter(None, [self._batches_of(job), ended])):
            found.append(Text(clean(words), style="dim", overflow="fold"))
        return found

    def _batches_of(self, job: Job) -> str:
        """Where the parts have rows, each names its own; while more are to come, their number is enough."""
        if not job.batch_ids or (len(job.parts) > 1 and (self._parts or job.status in ACTIVE)):
            return ""
        return f"batch {', '.join(job.batch_ids)}"


def _indented(text: Text, more: int = 0) -> Padding:
    return Padding(text, (0, 0, 0, ID_CELLS + 1 + more), expand=False)


def _row(key: str, name: str, sheets: str, amount: str, name_cells: int, style: Style) -> list[Segment]:
    shown = shortened(name, name_cells)
    padding = " " * (name_cells - cell_len(shown))
    rest = f"{sheets:>{SHEETS_CELLS}} {amount:>{SIZE_CELLS}} "
    return [Segment(f"{key:>{ID_CELLS}} {shown}{padding} {rest}", style)]


def _progress(status: Status, sent: int, whole: int, cells: int, blunt: bool) -> list[Segment]:
    """The status and, once something is sent, a bar with its percent; the line's end."""
    segments = [Segment(f"{status:{STATUS_CELLS}} ", _style(STYLES[status]))]
    if status in ACTIVE or sent:
        share = 1.0 if status is Status.COMPLETED else min(1.0, sent / max(1, whole))
        segments += bar(share, cells, blunt=blunt)
        segments.append(Segment(f"{' ' if cells else ''}{percent(share)}", _PLAIN))
    segments.append(Segment.line())
    return segments


def percent(share: float) -> str:
    """Four columns; 100 % only when nothing is missing."""
    return f"{1.0 if share >= 1 else min(share, 0.99):4.0%}"


def bar(share: float, cells: int, *, blunt: bool = False) -> list[Segment]:
    """A bar of so many columns; ``blunt``: for terminals that know ASCII alone."""
    halves = round(share * cells * 2)
    full = ("#" if blunt else "━") * (halves // 2) + ("" if blunt else "╸" * (halves % 2))
    rest = ("." if blunt else "─") * (cells - len(full))  # thinner: tells without colours, too
    return [Segment(full, _style("green" if share >= 1 else "cyan")), Segment(rest, _style("bright_black"))]


@lru_cache(maxsize=32)
def _style(words: str) -> Style:
    return Style.parse(words)


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
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def why(file: Arriving) -> str:
    """Why it is not queued; its name stands before already."""
    return clean(file.why.removeprefix(f"{file.name} "))


def shortened(name: str, cells: int) -> str:
    """A name within ``cells`` columns of a terminal, its middle left out: beginnings and endings tell."""
    text = clean(name)
    if cell_len(text) <= cells:
        return text
    head, tail = text, text
    while cell_len(head) > cells - cells // 2 - 1:
        head = head[:-1]
    while cell_len(tail) > cells // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def counted(number: int, noun: str) -> str:
    """'1 file', '1,003 files'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
