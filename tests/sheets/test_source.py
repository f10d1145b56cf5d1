"""Ranged reads of a file that must not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omrwatchd.sheets.source import FileSource, SourceChanged

from .zips import source_of

DATA = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.zip"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def source(path: Path) -> Iterator[FileSource]:
    fd = os.open(path, os.O_RDONLY)
    yield source_of(fd)
    os.close(fd)


def test_reads_exactly_what_is_asked(source: FileSource) -> None:
    """Any range within the file comes back whole, from many threads at once."""
    ranges = [(at * 37, at) for at in range(500)]
    with ThreadPoolExecutor(4) as pool:
        for (offset, length), got in zip(ranges, pool.map(lambda r: source.read(*r), ranges), strict=True):
            assert got == DATA[offset : offset + length]
    assert source.size == len(DATA)
    assert source.read(len(DATA), 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (0, len(DATA) + 1), (len(DATA), 1)])
def test_a_range_outside_is_the_callers_mistake(source: FileSource, offset: int, length: int) -> None:
    """A range that leaves the file raises instead of coming back short."""
    with pytest.raises(ValueError, match="lie outside"):
        source.read(offset, length)


def test_a_longer_file_has_changed(source: FileSource, path: Path) -> None:
    """A byte appended after the inspection is noticed at the next read."""
    with path.open("ab") as file:
        file.write(b"!")
    with pytest.raises(SourceChanged):
        source.read(0, 10)


def test_a_shorter_file_has_changed(source: FileSource, path: Path) -> None:
    """A truncated file is noticed, wherever the read was to be."""
    os.truncate(path, 100)
    with pytest.raises(SourceChanged):
        source.read(0, 10)


def test_a_touched_file_has_changed(source: FileSource, path: Path) -> None:
    """Another modification time is another file, even with the same size."""
    os.utime(path, ns=(0, 12345))
    with pytest.raises(SourceChanged):
        source.read(0, 10)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_during_the_read_is_noticed(
    when: str, source: FileSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes between the first look and the last byte is not handed out."""
    pread = os.pread

    def meddle(fd: int, length: int, offset: int) -> bytes:
        if when == "before":
            os.truncate(path, 5)
        data = pread(fd, length, offset)
        os.truncate(path, 5)
        return data

    monkeypatch.setattr(os, "pread", meddle)
    with pytest.raises(SourceChanged):
        source.read(0, 10)


def test_short_reads_are_continued(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network share may hand out less than asked for: the rest is fetched."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 7), offset))
    assert source.read(3, 100) == DATA[3:103]


def test_a_renamed_file_is_the_same(source: FileSource, path: Path) -> None:
    """Filing moves the file while it may still be open: its content has not changed."""
    path.rename(path.with_name("moved.zip"))
    assert source.read(0, 10) == DATA[:10]
