"""What the documents promise, taken apart; and what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from omrwatchd import events
from omrwatchd.events import Event

ROOT = Path(__file__).parent.parent.parent
OPERATIONS = ROOT / "docs" / "OPERATIONS.md"


def event_kinds() -> list[type[Event]]:
    """Every event, in the order of the code."""
    return [
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ]


def table_rows(text: str, header: str) -> list[list[str]]:
    """The cells of the Markdown table that begins with the line ``header``."""
    lines = text.splitlines()
    begin = lines.index(header) + 2
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
    return rows
