"""`omrwatchd split FILE`: the batches that a ZIP becomes, shown, and written when wanted."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from omrwatchd.cli.render import clean, shortened, size
from omrwatchd.errors import Problem
from omrwatchd.model import display_name
from omrwatchd.sheets.archive import Archive, check_sheets, read_archive
from omrwatchd.sheets.export import write_part
from omrwatchd.sheets.source import SourceChanged
from omrwatchd.sheets.split import Layout, PartPlan, layout, plan

NAME_MAX = 255
"""Bytes of a file name (limits.h)."""


def split_file(file: Path, max_sheets: int, pages_per_sheet: int, out: Path | None) -> None:
    """Show the plan; with ``out`` write the parts there.

    Raises:
        Problem: the file can't be read, is no whole ZIP with sheets, or a part can't be written.
    """
    name = display_name(os.path.basename(os.fsencode(file)))
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Problem("unreadable", f"{name} can't be read: {error.strerror}.", "Check the path.") from None
    try:
        archive = _read(descriptor, name)
        plans = plan(archive, max_sheets, pages_per_sheet, file.name)
        layouts = [layout(archive, part) for part in plans]
        Console(highlight=False).print(_table(archive, plans, layouts))
        if out is not None:
            _write(descriptor, plans, layouts, out)
    finally:
        os.close(descriptor)


def _read(descriptor: int, name: str) -> Archive:
    try:
        archive = read_archive(descriptor, name)
    except OSError as error:
        raise Problem("unreadable", f"{name} can't be read: {error.strerror}.", "") from None
    check_sheets(archive, name)
    return archive


def _table(archive: Archive, plans: tuple[PartPlan, ...], layouts: list[Layout]) -> Table:
    sheets = [display_name(entry.name) for entry in archive.entries if entry.is_sheet]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("Part", no_wrap=True)
    table.add_column("Sheets", justify="right", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("From", overflow="ellipsis", no_wrap=True)
    table.add_column("To", overflow="ellipsis", no_wrap=True)
    for part, made in zip(plans, layouts, strict=True):
        table.add_row(
            Text(shortened(display_name(os.fsencode(part.name)), 30)),
            str(part.sheets),
            size(made.size),
            Text(clean(sheets[part.first])),
            Text(clean(sheets[part.stop - 1])),
        )
    return table


def _write(descriptor: int, plans: tuple[PartPlan, ...], layouts: list[Layout], out: Path) -> None:
    """All parts, or those before the one that could not be written; none when one is there already."""
    before = os.fstat(descriptor)
    targets = [os.path.join(os.fsencode(out), _fitting(os.fsencode(part.name))) for part in plans]
    for target in targets:
        if os.path.lexists(target):
            raise _taken(target)
    for target, made in zip(targets, layouts, strict=True):
        _write_one(descriptor, made, target)
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            os.unlink(target)
            summary = f"{display_name(target)} was taken away again: the ZIP was changed while it was read."
            raise Problem("file_changed", summary, "Try again when it is finished.")
        print(f"wrote {display_name(target)}")


def _write_one(descriptor: int, made: Layout, target: bytes) -> None:
    shown = display_name(target)
    try:
        os.makedirs(os.path.dirname(target) or b".", exist_ok=True)
        write_part(descriptor, made, target)
    except FileExistsError:
        raise _taken(target) from None
    except BlockingIOError:
        summary = f"{shown} is being written by another process just now."
        raise Problem("not_written", summary, "Wait for it, or name another folder with --out.") from None
    except SourceChanged as change:
        raise Problem("file_changed", f"{shown} was not written: {change}.", "") from None
    except OSError as error:
        reason = error.strerror or str(error)
        summary = f"{shown} can't be written: {reason}."
        raise Problem("not_written", summary, "No half part is left behind.") from None


def _taken(target: bytes) -> Problem:
    summary = f"{display_name(target)} is there already; no part was written over it."
    return Problem("target_exists", summary, "Name another folder with --out.")


def _fitting(name: bytes) -> bytes:
    """A part's name within what a file system takes; its number and suffix stay."""
    stem, dot, end = name.rpartition(b".part")
    if len(name) <= NAME_MAX or not dot:
        return name
    return stem[: NAME_MAX - len(dot + end)] + dot + end
