"""Ranged reads of a file that must not change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omrwatchd.sheets.source import FileSource, SourceChanged
from tests.sources import sent

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
        for (offset, length), got in zip(ranges, pool.map(lambda r: sent(source, *r), ranges), strict=True):
            assert got == DATA[offset : offset + length]
    assert source.size == len(DATA)
    assert sent(source, len(DATA), 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (0, len(DATA) + 1), (len(DATA), 1)])
def test_a_range_outside_is_the_callers_mistake(source: FileSource, offset: int, length: int) -> None:
    """A range that leaves the file raises instead of coming back short."""
    with pytest.raises(ValueError, match="lie outside"):
        sent(source, offset, length)


def test_a_longer_file_has_changed(source: FileSource, path: Path) -> None:
    """A byte appended after the inspection is noticed at the next read, whatever the file's time says."""
    seen = path.stat()
    with path.open("ab") as file:
        file.write(b"!")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(SourceChanged):
        sent(source, 0, 10)


def test_a_shorter_file_has_changed(source: FileSource, path: Path) -> None:
    """A truncated file is noticed, wherever the read was to be and whatever the file's time says."""
    seen = path.stat()
    os.truncate(path, 100)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(SourceChanged):
        sent(source, 0, 10)


def test_a_touched_file_has_changed(source: FileSource, path: Path) -> None:
    """Another modification time is another file, even with the same size."""
    os.utime(path, ns=(0, 12345))
    with pytest.raises(SourceChanged):
        sent(source, 0, 10)


@pytest.mark.parametrize(("when", "noticed"), [("before", "became shorter"), ("after", "was changed")])
def test_a_change_during_the_read_is_noticed(
    when: str, noticed: str, source: FileSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes between the first look and the last byte is not handed out."""
    preadv = os.preadv

    def meddle(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if when == "before":
            os.truncate(path, 5)
        have = preadv(fd, buffers, offset)
        os.truncate(path, 5)
        return have

    monkeypatch.setattr(os, "preadv", meddle)
    with pytest.raises(SourceChanged, match=noticed):
        sent(source, 0, 10)


def test_short_reads_are_continued(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network share may hand out less than asked for: the rest is fetched."""
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(fd, [buffers[0][:7]], offset))
    assert sent(source, 3, 100) == DATA[3:103]


def test_a_renamed_file_is_the_same(source: FileSource, path: Path) -> None:
    """Filing moves the file while it may still be open: its content has not changed."""
    path.rename(path.with_name("moved.zip"))
    assert sent(source, 0, 10) == DATA[:10]
