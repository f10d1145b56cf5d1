"""How a ZIP with too many sheets becomes parts, and of which bytes each part is made. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from omrwatchd.sheets.directory import write_directory
from omrwatchd.sheets.entry import Archive, Entry

_SUFFIX = ".zip"


@dataclass(frozen=True, slots=True)
class PartPlan:
    """One batch to be made from a ZIP.

    Args:
        index: 0 for the first part.
        name: the file name that the server sees.
        first: its first sheet, counted in the order of the central directory.
        stop: behind its last sheet.
    """

    index: int
    name: str
    first: int
    stop: int

    @property
    def sheets(self) -> int:
        """How many sheets it holds."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of the original: ``length`` of them from ``offset``."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes of a part, in order: ranges of the original, and bytes that are new.

    Args:
        segments: none is empty.
        size: length of the part in bytes.
    """

    segments: tuple[Range | bytes, ...]
    size: int


def plan(archive: Archive, max_sheets: int, pages_per_sheet: int, name: str) -> tuple[PartPlan, ...]:
    """Share the sheets out over as few parts as the limit allows, balanced.

    Args:
        archive: the whole ZIP.
        max_sheets: the most sheet images a part may hold; 0 for no limit.
        pages_per_sheet: this many images in a row belong together and are never parted, even where that
            alone is more than ``max_sheets``.
        name: the file name of the whole ZIP; a single part keeps it.
    """
    sheets = archive.sheets
    groups = -(-sheets // pages_per_sheet)
    most = max(1, max_sheets // pages_per_sheet) if max_sheets > 0 else max(1, groups)
    count = max(1, -(-groups // most))
    if count == 1:
        return (PartPlan(0, name, 0, sheets),)
    # The larger parts come last, where a group that is not full makes up for it.
    stops = [min(sheets, (index + 1) * groups // count * pages_per_sheet) for index in range(count)]
    firsts = [0, *stops[:-1]]
    return tuple(
        PartPlan(index, _part_name(name, index, count), first, stop)
        for index, (first, stop) in enumerate(zip(firsts, stops, strict=True))
    )


def _part_name(name: str, index: int, count: int) -> str:
    cut = len(name) - len(_SUFFIX) if name.lower().endswith(_SUFFIX) else len(name)
    return f"{name[:cut]}.part{index + 1}of{count}{name[cut:]}"


def layout(archive: Archive, part: PartPlan) -> Layout:
    """Of which bytes a part is made: a valid ZIP of its own.

    Its entries (the part's sheets, and in every part all entries that are no sheets) keep their bytes,
    local header to data descriptor, in the physical order of the original: no entry moves towards the
    end, so no 32-bit offset ever overflows. Their directory records keep everything but the offset. A part
    that is the whole ZIP is the original file, byte for byte.
    """
    if part.sheets == archive.sheets:
        return Layout((Range(0, archive.size),), archive.size)
    chosen = _choose(archive.entries, part)
    physical = sorted(chosen, key=lambda entry: entry.offset)
    moved: dict[int, int] = {}
    start = 0
    for entry in physical:
        moved[entry.offset] = start
        start += entry.end - entry.offset
    records = ((entry.record, moved[entry.offset]) for entry in chosen)
    directory = write_directory(records, start, archive.comment)
    return Layout((*_coalesce(physical), directory), start + len(directory))


def _choose(entries: Iterable[Entry], part: PartPlan) -> list[Entry]:
    """The part's entries, in the order of the central directory."""
    chosen = []
    sheet = 0
    for entry in entries:
        if not entry.is_sheet:
            chosen.append(entry)
            continue
        if part.first <= sheet < part.stop:
            chosen.append(entry)
        sheet += 1
    return chosen


def _coalesce(physical: Iterable[Entry]) -> list[Range]:
    """Entries that stand side by side, as one range."""
    ranges: list[Range] = []
    for entry in physical:
        length = entry.end - entry.offset
        if ranges and ranges[-1].offset + ranges[-1].length == entry.offset:
            last = ranges.pop()
            ranges.append(Range(last.offset, last.length + length))
        else:
            ranges.append(Range(entry.offset, length))
    return ranges
