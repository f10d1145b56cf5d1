"""One picture of `status --watch`, laid out for the terminal as it is at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from omrwatchd.cli.pace import Pace, bytes_in_all, bytes_left, duration, files_left
from omrwatchd.cli.render import WORDS, also_paused
from omrwatchd.cli.rows import ID_CELLS, FileRows, bar, clean, counted, percent, shortened, size, why
from omrwatchd.model import Job, Status, WorkerState
from omrwatchd.queue.views import Overview, bytes_sent

ARRIVING_LINES = 3
_INDENT = (0, 0, 0, ID_CELLS + 1)
_TONES = {WorkerState.HELD: "bold red", WorkerState.PAUSED: "bold yellow", WorkerState.STOPPED: "bold yellow"}
_LASTING = frozenset({WorkerState.HELD, WorkerState.PAUSED, WorkerState.PROCESSING})
Line = list[Segment]


class Frame:
    """State and outlook; what goes on; what waits; what arrives; what is finished. Never above the height."""

    def __init__(self, overview: Overview, pace: Pace, cooldown_seconds: float, now: float) -> None:
        self._overview = overview
        self._pace = pace
        self._cooldown = cooldown_seconds
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        free = options.update(height=None)

        def lines(*renderables: RenderableType) -> list[Line]:
            return [line for each in renderables for line in console.render_lines(each, free, pad=False)]

        head = lines(*self._state(options), *self._queue(options), Text(""))
        any_rows = self._overview.active or self._overview.waiting or self._overview.ended
        going = FileRows(self._overview.active, parts=False, notes=self._notes())
        active = lines(going if any_rows else Text("No files.", style="dim"))
        arriving = lines(*self._arriving())
        foot = lines(Text("q ends this; the daemon goes on", style="dim"))
        room = max(2, height - len(head) - len(active) - len(arriving) - len(foot))
        ended = [lines(FileRows([job], header=False, parts=False)) for job in self._overview.ended]
        waiting = self._waiting(room, sum(map(len, ended)) + 2 if ended else 0)
        body = [*head, *active, *lines(*waiting), *arriving]
        if fitting := _whole(ended, height - len(body) - len(foot) - 2):
            body += [*lines(Text(""), Text("Finished, newest first", style="dim")), *fitting]
        for line in [*body[: height - len(foot)], *foot]:
            yield from line
            yield Segment.line()

    def _state(self, options: ConsoleOptions) -> list[RenderableType]:
        """What the daemon is doing, why, and since when."""
        worker, state = self._overview.worker, self._overview.worker.state
        pause = also_paused(worker, bool(self._overview.active))
        line = Text("omrwatchd ", style="bold").append(str(state), style=_TONES.get(state, "bold cyan"))
        if state is WorkerState.UPLOADING and worker.rate:
            line.append(f" at {size(round(worker.rate))}/s")
        if state is WorkerState.COOLDOWN:
            whole = max(self._cooldown, worker.cooldown_left, 0.1)
            line = Text.assemble(line, "  ", _bar(1 - worker.cooldown_left / whole, 20, options))
            line.append(f"  {worker.cooldown_left:.1f} s{'' if pause else ' until the next upload'}")
            return [line.append(pause, style="bold yellow")]
        if state in _LASTING and worker.since:
            lasted = duration(max(0.0, self._now - worker.since))
            line.append(f" {_since(worker.since, self._now)} ({lasted})")
        line.append(pause, style="bold yellow")
        words = worker.reason or WORDS.get(state, "")
        if state is WorkerState.HELD:
            hint = " `omrwatchd resume` tries at once."
            return [line, Padding(Text(clean(words), style="red").append(hint, style="dim"), _INDENT)]
        return [line.append(f": {clean(words)}") if words else line]

    def _queue(self, options: ConsoleOptions) -> list[RenderableType]:
        """The whole queue: a bar, how much is left, and how long that takes."""
        overview = self._overview
        left = files_left(overview)
        if left == 0:
            return []
        whole, missing = bytes_in_all(overview), bytes_left(overview)
        share = (whole - missing) / max(1, whole)
        words = f"{left:,} of {counted(left + overview.ended_since.files, 'file')} to go, {size(missing)}"
        if (seconds := self._pace.queue_left(overview)) is not None:
            words += f", {duration(seconds)} left"
        cells = 20 if options.max_width < 100 else 40
        return [Text.assemble("queue ", _bar(share, cells, options), f" {percent(share)}  {words}")]

    def _notes(self) -> dict[int, str]:
        return {job.id: words for job in self._overview.active if (words := self._note(job))}

    def _note(self, job: Job) -> str:
        """How it goes with a file under way."""
        worker, count = self._overview.worker, len(job.parts)
        delivered = sum(part.batch_id is not None for part in job.parts)
        if job.status is Status.PROCESSING:
            verb = "is" if delivered == 1 else "are"
            words = [f"{delivered} of {count} parts {verb} delivered" if count > 1 else "it is delivered"]
            if worker.state in _LASTING:
                words.append("the server has not begun to process " + ("the last" if count > 1 else "it"))
            elif worker.state is WorkerState.COOLDOWN and delivered < count:
                words.append("the next one follows the cooldown")
            return ", ".join(words)
        part = next((part for part in job.parts if part.status is Status.UPLOADING), None)
        words = [f"part {part.index + 1} of {count}"] if part is not None and count > 1 else []
        if worker.rate:
            words.append(f"{size(round(worker.rate))}/s")
        missing = job.identity.size - bytes_sent(job)
        if (seconds := self._pace.file_left(missing, count - delivered)) is not None:
            words.append(f"{duration(seconds)} left")
        return ", ".join(words)

    def _waiting(self, room: int, wanted_by_ended: int) -> list[RenderableType]:
        """The next files, as many as there is room for: half of it, and what the finished ones leave."""
        waiting, count = self._overview.waiting, self._overview.backlog.files
        if count == 0:
            return []
        lines = max(1, room // 2, room - wanted_by_ended)
        shown = waiting if count <= lines and count == len(waiting) else waiting[: max(0, lines - 1)]
        rows: list[RenderableType] = [FileRows(shown, header=False, parts=False)] if shown else []
        if (more := count - len(shown)) > 0:
            rows.append(Padding(Text(f"… and {more:,} more that wait", style="dim"), _INDENT))
        return rows

    def _arriving(self) -> list[RenderableType]:
        files = self._overview.arriving
        if not files:
            return []
        fit = len(files) if len(files) <= ARRIVING_LINES else ARRIVING_LINES - 1
        lines: list[RenderableType] = [Text("")]
        for file in files[:fit]:
            words = f"arriving {shortened(file.name, 28)}, {size(file.size)}: {why(file)}"
            lines.append(Text(words, style="dim", no_wrap=True, overflow="ellipsis"))
        if len(files) > fit:
            lines.append(Text(f"arriving … and {len(files) - fit:,} more", style="dim"))
        return lines


def _whole(blocks: Sequence[list[Line]], room: int) -> list[Line]:
    """The lines of as many blocks as fit whole."""
    found: list[Line] = []
    for block in blocks:
        if len(found) + len(block) > room:
            break
        found += block
    return found


def _bar(share: float, cells: int, options: ConsoleOptions) -> Text:
    segments = bar(share, cells, blunt=options.ascii_only)
    return Text.assemble(*((segment.text, segment.style or "") for segment in segments))


def _since(moment: float, now: float) -> str:
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    return f"since {then:%H:%M:%S}" if then.date() == today.date() else f"since {then:%Y-%m-%d %H:%M}"
