"""`omrwatchd summary`: the finished files as a table, CSV or JSON lines."""

from __future__ import annotations

import csv
import re
import sys
from datetime import datetime, timedelta

from rich.console import Console

from omrwatchd.cli.machine import as_text
from omrwatchd.cli.render import summary_table
from omrwatchd.clock import SystemClock
from omrwatchd.delivery.summary import line_of
from omrwatchd.errors import Problem
from omrwatchd.model import Job
from omrwatchd.queue.views import Views

FORMATS = ("table", "csv", "json")
_COLUMNS = (
    "id", "name", "status", "bytes", "sheets", "upload_type", "task_id", "batch_ids", "attempts", "error",
    "queued", "delivered", "finished",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def show(views: Views, since: str, form: str) -> None:
    """Print the files that ended at or after ``since``.

    Raises:
        Problem: ``usage_…`` for a format or a time that is none.
    """
    if form not in FORMATS:
        raise Problem("usage_format", f"--format {form} is unknown.", f"Use one of: {', '.join(FORMATS)}.")
    finished = views.finished(_moment(since, SystemClock().now()))
    if form == "json":
        for job in finished:
            print(as_text(line_of(job)))
    elif form == "csv":
        _write_csv(finished)
    else:
        Console(highlight=False).print(summary_table(finished))


def _moment(words: str, now: float) -> float:
    """'2026-11-01', 'today' or '7d' as seconds since the epoch, in local time; 0 for nothing."""
    if not words:
        return 0.0
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if words == "today":
        return today.timestamp()
    if span := re.fullmatch(r"(\d{1,4})([dh])", words):
        unit = timedelta(days=1) if span[2] == "d" else timedelta(hours=1)
        return now - int(span[1]) * unit.total_seconds()
    try:
        return datetime.fromisoformat(words).timestamp()
    except ValueError:
        raise Problem(
            "usage_since", f"--since {words} is no time.", "Use a day (2026-11-01), 'today', or 7d."
        ) from None


def _write_csv(jobs: list[Job]) -> None:
    """RFC 4180, in UTF-8 whatever the terminal's encoding, with the mark by which Excel knows it."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")  # type: ignore[union-attr]
    sys.stdout.write("\N{BYTE ORDER MARK}")
    writer = csv.writer(sys.stdout)
    writer.writerow(_COLUMNS)
    for job in jobs:
        line = line_of(job) | {
            "batch_ids": " ".join(job.batch_ids),
            "error": job.problem.summary if job.problem is not None else "",
        }
        writer.writerow([_defused(line[column]) for column in _COLUMNS])


def _defused(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP)."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
