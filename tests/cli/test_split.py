"""`omrwatchd split`: the plan, and parts as files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zips import sha256, write_zip


def split(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omrwatchd", "split", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_plan_is_shown_and_nothing_written(tmp_path: Path) -> None:
    """Without --out the parts are a table: names, sheets, first and last."""
    done = split(write_zip(tmp_path / "scan.zip", sheets=8), "--max-sheets", 3)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [(line[0], line[1]) for line in lines] == [
        ("scan.part1of3.zip", "2"), ("scan.part2of3.zip", "3"), ("scan.part3of3.zip", "3"),
    ]  # fmt: skip
    assert lines[0][-2:] == ["sheet-00000.jpg", "sheet-00001.jpg"]
    assert os.listdir(tmp_path) == ["scan.zip"]


def test_parts_are_written_as_zips_of_their_own(tmp_path: Path) -> None:
    """Each part opens in Python's zipfile and Info-ZIP, and together they are the original's sheets."""
    whole = write_zip(tmp_path / "scan.zip", sheets=8, size=3_000_000)
    before = sha256(whole)
    done = split(whole, "--max-sheets", 3, "--out", tmp_path / "parts")
    assert done.returncode == 0, done.stderr
    names = sorted(os.listdir(tmp_path / "parts"))
    assert names == [f"scan.part{number}of3.zip" for number in (1, 2, 3)]
    found: list[tuple[str, bytes]] = []
    for name in names:
        with zipfile.ZipFile(tmp_path / "parts" / name) as part:
            assert part.testzip() is None
            found += [(info.filename, part.read(info)) for info in part.infolist()]
        subprocess.run(["unzip", "-tqq", tmp_path / "parts" / name], check=True)
    with zipfile.ZipFile(whole) as original:
        assert found == [(info.filename, original.read(info)) for info in original.infolist()]
    assert sha256(whole) == before


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A part that is there already is named in a sentence, before anything is written."""
    whole = write_zip(tmp_path / "scan.zip", sheets=8)
    (tmp_path / "scan.part2of3.zip").write_text("mine")
    done = split(whole, "--max-sheets", 3, "--out", tmp_path)
    assert done.returncode == 1
    assert "scan.part2of3.zip is there already" in done.stderr
    assert (tmp_path / "scan.part2of3.zip").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["scan.part2of3.zip", "scan.zip"]


def test_a_killed_split_is_in_nobodys_way(tmp_path: Path) -> None:
    """What kill -9 left of a part is begun anew; a part that another process is writing is let alone."""
    whole = write_zip(tmp_path / "scan.zip", sheets=8)
    leftover = tmp_path / ".scan.part1of3.zip.part"
    leftover.write_bytes(b"half" * 100_000)
    with leftover.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = split(whole, "--max-sheets", 3, "--out", tmp_path)
        assert (done.returncode, "being written by another" in done.stderr) == (1, True)
        assert leftover.stat().st_size == 400_000
    done = split(whole, "--max-sheets", 3, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not leftover.exists()
    for number in (1, 2, 3):
        with zipfile.ZipFile(tmp_path / f"scan.part{number}of3.zip") as part:
            assert part.testzip() is None


NO_SHEETS = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "not a complete ZIP"),
        (b"", "not a complete ZIP"),
        (NO_SHEETS, "is empty"),
        (None, "can't be read"),
        ("folder", "can't be read: Is a directory"),
        ("fifo", "can't be read"),
    ],
)
def test_what_is_no_zip_gets_a_sentence(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    """One sentence, no traceback, for a wrong file."""
    path = tmp_path / "scan.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "fifo":
        os.mkfifo(path)
    done = split(path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("--max-sheets", 0), ("--pages-per-sheet", 0), ("--max-sheets", "many")])
def test_limits_that_are_none_are_refused(tmp_path: Path, words: tuple[object, ...]) -> None:
    """A usage error, exit code 2."""
    done = split(write_zip(tmp_path / "scan.zip"), *words)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_longest_names_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A Latin-1 name of 255 bytes still gives parts with numbers."""
    whole = write_zip(tmp_path / "x.zip", sheets=4)
    name = b"Pr\xfcfung-" + b"x" * 243 + b".zip"
    os.rename(whole, os.fsencode(tmp_path) + b"/" + name)
    done = split(
        os.fsdecode(os.fsencode(tmp_path) + b"/" + name), "--max-sheets", 2, "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    made = sorted(os.listdir(os.fsencode(tmp_path / "out")))
    assert [part[:8] for part in made] == [b"Pr\xfcfung-"] * 2
    assert [part[-13:] for part in made] == [b".part1of2.zip", b".part2of2.zip"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk_leaves_nothing_half(tmp_path: Path, small_disk: Path) -> None:
    """One sentence; the part that did not fit is not there, the one before is whole."""
    whole = write_zip(tmp_path / "scan.zip", sheets=4, size=2_400_000)
    done = split(whole, "--max-sheets", 1, "--out", small_disk)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert os.listdir(small_disk) == ["scan.part1of4.zip"]
    with zipfile.ZipFile(small_disk / "scan.part1of4.zip") as part:
        assert part.testzip() is None
