"""The one line that `systemctl status` shows: 'uploading scan.zip 43 % at 52 MB/s, 3 waiting'."""

from __future__ import annotations

from omrwatchd.model import WorkerState
from omrwatchd.queue.glimpse import Glimpse

LONGEST_NAME = 60
LONGEST_REASON = 200
_MB = 1_000_000


def status_line(seen: Glimpse, notes: tuple[str, ...] = ()) -> str:
    """In words; ``notes`` are what else an operator should know, such as a drop folder that is away."""
    waiting = f", {seen.waiting} waiting" if seen.waiting else ""
    return "; ".join([_doing(seen) + waiting, *notes])


def _doing(seen: Glimpse) -> str:
    name = _short(seen.file or "a file", LONGEST_NAME)
    reason = _short(seen.reason or "", LONGEST_REASON).rstrip(".")
    if seen.state is WorkerState.UPLOADING:
        return f"uploading {name} {seen.percent or 0} %{_rate(seen.rate)}" + (f": {reason}" if reason else "")
    if seen.state is WorkerState.PROCESSING:
        return f"{name} is uploaded and waits for its processing" + (f": {reason}" if reason else "")
    if seen.state is WorkerState.HELD:
        return f"held: {reason}"
    if seen.state is WorkerState.PAUSED:
        return "paused by an operator"
    if seen.state is WorkerState.COOLDOWN:
        return "cooling down"
    return "waiting for files" if seen.state is WorkerState.IDLE else str(seen.state)


def _rate(rate: float | None) -> str:
    if rate is None:
        return ""
    digits = 0 if rate >= 10 * _MB else 1
    return f" at {rate / _MB:.{digits}f} MB/s"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
