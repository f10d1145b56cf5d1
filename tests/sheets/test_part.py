"""Parts are valid ZIPs with the same entries, readable at any offset."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omrwatchd.sheets.archive import Archive, read_archive
from omrwatchd.sheets.directory import move_record, write_directory
from omrwatchd.sheets.part import VirtualPart
from omrwatchd.sheets.records import END64_SIGNATURE
from omrwatchd.sheets.source import SourceChanged
from omrwatchd.sheets.split import Range, layout, plan
from tests.sources import sent, whole

from .zips import Member, build, gapped_zips, opened, read, scans, source_of, unzip_test


def parts_of(data: bytes, most: int, pages: int = 1) -> list[bytes]:
    with opened(data) as fd:
        archive = read_archive(fd, "scan.zip")
        plans = plan(archive, most, pages, "scan.zip")
        return [whole(VirtualPart(source_of(fd), layout(archive, part))) for part in plans]


def raw(archive: Archive, data: bytes, sheets: bool) -> list[tuple[bytes, bytes]]:
    """The name and the untouched bytes of each entry that is a sheet, or that is none."""
    return [(e.name, data[e.offset : e.end]) for e in archive.entries if e.is_sheet == sheets]


def is_sound(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.zip")
        path.write_bytes(data)
        unzip_test(path)


@settings(max_examples=40, deadline=None)
@given(gapped_zips.filter(lambda data: read(data).sheets > 1), st.integers(1, 4), st.integers(1, 2))
def test_parts_are_zips_with_the_same_entries(data: bytes, most: int, pages: int) -> None:
    """unzip and zipfile accept each part; every sheet is in one part, byte for byte, in order."""
    archive = read(data)
    parts = parts_of(data, most, pages)
    seen = []
    for part in parts:
        again = read(part)
        seen += raw(again, part, sheets=True)
        assert raw(again, part, sheets=False) == raw(archive, data, sheets=False)
        assert again.comment == archive.comment
        if len(parts) > 1:  # else it is the original itself, with whatever stands before its first entry
            is_sound(part)
            assert END64_SIGNATURE not in part[again.directory_offset :]
        else:
            assert part == data
    assert seen == raw(archive, data, sheets=True)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\n"])
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("gap", [b"", b"\0" * 24])
def test_every_kind_of_zip_can_be_split(
    streamed: bool, reverse: bool, prefix: bytes, zip64: bool, gap: bytes
) -> None:
    """Descriptors, another order in the directory, gaps, stubs and ZIP64 entries survive the split."""
    names = ["b.jpg", "folder/", "folder/é.jpg", "manifest.xml", "a.tif", "日本.png", "c.pdf"]
    members = [
        Member(name, b"" if name[-1] == "/" else name.encode() * 9, n % 2 == 0)
        for n, name in enumerate(names)
    ]
    for member in members:
        member.zip64 = zip64
    data = build(members, streamed=streamed, reverse=reverse, gap=gap, prefix=prefix, comment=b"hi")
    parts = parts_of(data, 2)
    assert len(parts) == 3
    for part in parts:
        is_sound(part)
        with zipfile.ZipFile(io.BytesIO(part)) as archive:
            assert {"folder/", "manifest.xml"} < set(archive.namelist())
            assert archive.comment == b"hi"


fractions = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=8)


@settings(deadline=None)
@given(gapped_zips.filter(lambda data: read(data).sheets > 1), fractions)
def test_any_range_is_that_of_the_whole(data: bytes, asked: list[tuple[float, float]]) -> None:
    """Four threads send from any offsets at once, and what they send stands there in the whole."""
    with opened(data) as fd, ThreadPoolExecutor(4) as pool:
        archive = read_archive(fd, "scan.zip")
        for part in plan(archive, 1, 1, "scan.zip"):
            source = VirtualPart(source_of(fd), layout(archive, part))
            all_of_it = whole(source)
            assert len(all_of_it) == source.size
            ranges = [sorted(round(share * source.size) for share in pair) for pair in asked]
            found = pool.map(lambda span, source=source: sent(source, span[0], span[1] - span[0]), ranges)
            assert list(found) == [all_of_it[start:stop] for start, stop in ranges]


def test_threads_share_a_part() -> None:
    """Four chunk threads read one part at once."""
    data = build([Member(f"{n}.jpg", os.urandom(500)) for n in range(100)], reverse=True)
    with opened(data) as fd, ThreadPoolExecutor(4) as pool:
        archive = read_archive(fd, "scan.zip")
        source = VirtualPart(source_of(fd), layout(archive, plan(archive, 50, 1, "scan.zip")[1]))
        blocks = pool.map(lambda at: sent(source, at, min(97, source.size - at)), range(0, source.size, 97))
        assert b"".join(blocks) == whole(source)


def test_a_changed_original_is_noticed_through_the_part() -> None:
    """A part of a file that changed is never handed out."""
    with opened(scans(4)) as fd:
        archive = read_archive(fd, "scan.zip")
        source = VirtualPart(source_of(fd), layout(archive, plan(archive, 2, 1, "scan.zip")[0]))
        os.pwrite(fd, b"x", archive.size)
        with pytest.raises(SourceChanged):
            sent(source, 0, 10)


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, 10**6), (5, -1)])
def test_a_range_outside_of_a_part_is_the_callers_mistake(offset: int, length: int) -> None:
    """A range that leaves the part raises instead of coming back short."""
    with opened(scans(4)) as fd:
        archive = read_archive(fd, "scan.zip")
        source = VirtualPart(source_of(fd), layout(archive, plan(archive, 2, 1, "scan.zip")[0]))
        with pytest.raises(ValueError, match="lie outside"):
            sent(source, offset, length)


def test_gaps_between_entries_stay_behind() -> None:
    """What deleted entries left in the file is in no part; the entries around it are, whole."""
    data = scans(6, gap=b"deleted" * 100, shuffled=3, streamed=True)
    parts = parts_of(data, 2)
    assert len(parts) == 3
    for part in parts:
        is_sound(part)
        assert b"deleted" not in part


@pytest.mark.parametrize(
    ("count", "start", "wide"),
    [
        (2, 2**32 - 2, False),
        (2, 2**32 - 1, True),  # the value that means 'look in the ZIP64 record' (APPNOTE.TXT 4.4.1.4)
        (65_534, 100, False),
        (65_535, 100, True),
    ],
)
def test_zip64_records_exactly_when_a_number_needs_them(count: int, start: int, wide: bool) -> None:
    """One entry or one byte fewer, and the end of the part is that of a plain ZIP."""
    record = read(scans(1)).entries[0].record
    end = write_directory(((record, 0) for _ in range(count)), start, b"")[count * len(record) :]
    assert (end[:4] == END64_SIGNATURE, len(end)) == ((True, 98) if wide else (False, 22))
    assert move_record(record, 2**32 - 2)[46 + 13 :] == b""
    assert move_record(record, 2**32 - 1)[46 + 13 :] == struct.pack("<HHQ", 1, 8, 2**32 - 1)
    assert move_record(move_record(record, 2**33), 0) == record


@pytest.mark.slow
def test_zip64_end_from_65535_entries_on() -> None:
    """A part whose entries no longer can be counted in 16 bits has the ZIP64 end record, others do not."""
    data = scans(65_536 + 2 * 65_534)
    for most, counts in ((65_536, [65_534, 65_535, 65_535]), (65_534, [49_151] * 4)):
        parts = parts_of(data, most)
        assert [read(part).sheets for part in parts] == counts
        for part, count in zip(parts, counts, strict=True):
            assert (part[-98:-94] == b"PK\x06\x06") == (count >= 65_535)
            with zipfile.ZipFile(io.BytesIO(part)) as reference:
                assert len(reference.infolist()) == count
    is_sound(parts_of(data, 65_536)[2])


@pytest.mark.slow
def test_an_exam_of_11404_sheets() -> None:
    """The largest exam seen becomes four sound parts that hold every sheet once."""
    data = scans(11_404, streamed=True)
    parts = parts_of(data, 3000)
    seen = []
    for part in parts:
        is_sound(part)
        seen += raw(read(part), part, sheets=True)
    assert len(parts) == 4
    assert seen == raw(read(data), data, sheets=True)


GIB = 1 << 30


def sparse_zip(path: Path, sizes: list[int]) -> list[int]:
    """A ZIP of stored sheets with holes for data; returns the offsets of its entries."""
    offsets = []
    at = 0
    with path.open("w+b") as file, zipfile.ZipFile(file, "w") as target:
        for number, size in enumerate(sizes):
            info = zipfile.ZipInfo(f"{number}.jpg")
            info.file_size = info.compress_size = size
            info.header_offset = at
            info.CRC = 1 + number
            header = info.FileHeader(zip64=size >= 2**31)
            os.pwrite(file.fileno(), header, at)
            target.filelist.append(info)
            offsets.append(at)
            at += len(header) + size
        target.start_dir = at
        target._didModify = True  # type: ignore[attr-defined]
    return offsets


def materialise(
    source: VirtualPart, segments: tuple[Range | bytes, ...], headers: list[int], fd: int
) -> None:
    """Write a part with the holes left out: only its local headers and its directory."""
    os.ftruncate(fd, source.size)
    directory = segments[-1]
    assert isinstance(directory, bytes)
    end = source.size - len(directory)
    for at in headers:
        os.pwrite(fd, sent(source, at, min(60, end - at)), at)
    os.pwrite(fd, sent(source, end, len(directory)), end)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_offsets_beyond_4_gib(most: int, tmp_path: Path) -> None:
    """ZIP64 offsets are read, kept where a part needs them, and made short where it does not."""
    sizes = [3 * GIB, 2 * GIB, 5 * GIB, 3 * GIB, 1 * GIB, 2**32 - 200, 3 * GIB, 70]
    path = tmp_path / "scan.zip"
    sparse_zip(path, sizes)
    with path.open("rb") as file:
        archive = read_archive(file.fileno(), "scan.zip")
        assert [entry.size for entry in archive.entries] == sizes
        for part in plan(archive, most, 1, "scan.zip"):
            made = layout(archive, part)
            source = VirtualPart(source_of(file.fileno()), made)
            mine = archive.entries[part.first : part.stop]
            headers = [entry.offset - mine[0].offset for entry in mine]
            check_sparse_part(source, made.segments, headers, tmp_path / part.name)


def check_sparse_part(
    source: VirtualPart, segments: tuple[Range | bytes, ...], headers: list[int], path: Path
) -> None:
    with path.open("w+b") as file:
        materialise(source, segments, headers, file.fileno())
        again = read_archive(file.fileno(), path.name)
        assert [entry.offset for entry in again.entries] == headers
        for entry in again.entries:
            # zipfile writes sizes from 2 GiB on into the ZIP64 field; offsets go there only when they must.
            wide = b"\x01\x00" if entry.offset >= 0xFFFFFFFF or entry.size >= 2**31 else b""
            assert entry.record[46 + len(entry.name) :][:2] == wide
        directory = segments[-1]
        assert isinstance(directory, bytes)
        assert (b"PK\x06\x06" in directory) == (again.directory_offset >= 0xFFFFFFFF)
        with zipfile.ZipFile(file) as reference:
            assert [info.header_offset for info in reference.infolist()] == headers
