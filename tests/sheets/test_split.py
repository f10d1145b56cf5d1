"""How the sheets are shared out, and how directory records are rewritten."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omrwatchd.sheets.directory import move_record
from omrwatchd.sheets.entry import Archive, Entry
from omrwatchd.sheets.records import extra_fields, read_centrals
from omrwatchd.sheets.split import Range, layout, plan

from .zips import Member, build, read, scans


def sheets(count: int) -> Archive:
    entry = Entry(b"a.jpg", 0, 0, 0, 0, 0, 0, 0, b"")
    return Archive(1, (entry,) * count, b"", 0, "")


def test_a_large_exam_becomes_balanced_parts() -> None:
    """11,404 sheets with 3,000 at most are four parts of 2,851."""
    parts = plan(sheets(11_404), 3000, 1, "scan.zip")
    assert [part.sheets for part in parts] == [2851] * 4
    assert [part.name for part in parts] == [f"scan.part{n}of4.zip" for n in (1, 2, 3, 4)]
    assert [part.index for part in parts] == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "most"), [(0, 10), (1, 10), (10, 10), (500, 0)])
def test_a_single_part_keeps_its_name(count: int, most: int) -> None:
    """What fits into one batch, or with splitting turned off, is the whole file under its own name."""
    (part,) = plan(sheets(count), most, 1, "Scan.ZIP")
    assert (part.name, part.first, part.stop) == ("Scan.ZIP", 0, count)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Exam.ZIP", "Exam.part1of2.ZIP"),
        ("a.b.Zip", "a.b.part1of2.Zip"),
        ("noend", "noend.part1of2"),
        ("\udce9.zip", "\udce9.part1of2.zip"),
        ("zip", "zip.part1of2"),
    ],
)
def test_names_keep_their_suffix(name: str, part: str) -> None:
    """The part's number stands before the suffix, which keeps its case."""
    assert plan(sheets(2), 1, 1, name)[0].name == part


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 60), st.integers(1, 5))
def test_parts_are_balanced_and_whole(count: int, most: int, pages: int) -> None:
    """Every sheet in exactly one part, in order; none over the limit; groups together; as few as can be."""
    parts = plan(sheets(count), most, pages, "scan.zip")
    assert [part.first for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == count
    sizes = [part.sheets for part in parts]
    assert max(sizes) - min(sizes) <= pages
    assert all(part.first % pages == 0 for part in parts)
    if most and len(parts) > 1:
        limit = max(most // pages, 1) * pages
        assert max(sizes) <= limit
        assert min(sizes) > 0
        assert (len(parts) - 1) * limit < count


def test_neighbours_are_one_range() -> None:
    """A part of sheets that stand side by side is one range of the original and a new directory."""
    archive = read(scans(10))
    second = layout(archive, plan(archive, 5, 1, "scan.zip")[1])
    first, directory = second.segments
    assert first == Range(archive.entries[5].offset, archive.directory_offset - archive.entries[5].offset)
    assert isinstance(directory, bytes)
    assert second.size == first.length + len(directory)


def test_the_whole_is_the_original() -> None:
    """A single part is the file itself, stub and all, byte for byte."""
    data = scans(4, prefix=b"stub")
    archive = read(data)
    assert layout(archive, *plan(archive, 10, 1, "scan.zip")).segments == (Range(0, len(data)),)


def test_layouts_repeat() -> None:
    """The same plan gives the same bytes, or a resumed upload would not fit."""
    archive = read(build([Member(f"{n}.jpg", b"x" * n) for n in range(9)], reverse=True))
    for part in plan(archive, 2, 1, "scan.zip"):
        assert layout(archive, part) == layout(archive, part)


FULL = 0xFFFFFFFF
numbers = st.integers(0, 2**40) | st.sampled_from([FULL - 1, FULL, FULL + 1])
others = st.lists(st.tuples(st.integers(2, 0xFFFF), st.binary(max_size=9)), max_size=3)


def pack(fields: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack("<HH", kind, len(data)) + data for kind, data in fields)


@settings(deadline=None)
@given(numbers, numbers, numbers, numbers, others, others, st.booleans(), st.booleans())
def test_a_moved_record_keeps_all_but_its_offset(
    size: int,
    compressed: int,
    old: int,
    new: int,
    before: list[tuple[int, bytes]],
    behind: list[tuple[int, bytes]],
    has_disk: bool,
    on_disk: bool,
) -> None:
    """The offset enters and leaves the ZIP64 field as needed; sizes, other fields and text stay."""
    values = [value for value in (size, compressed, old) if value >= FULL]
    wide = b"".join(struct.pack("<Q", value) for value in values) + struct.pack("<I", 0) * has_disk
    extra = pack([*before, *([(1, wide)] if wide else []), *behind])
    narrow = [min(value, FULL) for value in (compressed, size, old)]
    head = struct.pack(
        "<4s6H3I5H2I",
        *(b"PK\x01\x02", 45, 45, 0, 8, 1, 2, 3, narrow[0], narrow[1]),
        *(5, len(extra), 4, 0xFFFF if has_disk else 0, on_disk, 7, narrow[2]),
    )
    moved = move_record(head + b"a.jpg" + extra + b"text", new)
    (found,) = read_centrals(moved, 1, 0)
    assert (found.name, found.size, found.compressed, found.offset) == (b"a.jpg", size, compressed, new)
    assert moved.endswith(b"text")
    assert moved[:20] == head[:20]
    stop = 51 + int.from_bytes(moved[30:32], "little")
    kept = [(kind, moved[51 + at + 4 : 51 + to]) for kind, at, to in extra_fields(moved[51:stop])]
    assert [field for field in kept if field[0] != 1] == before + behind
    needed = 8 * sum(value >= FULL for value in (size, compressed, new)) + 4 * has_disk
    assert sum(len(data) for kind, data in kept if kind == 1) == needed
