from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd.intake import scan as module
from omrwatchd.intake.scan import FolderLost, scan


def names(folder: Path, **how: bool) -> list[str]:
    found = scan(bytes(folder), recursive=how.get("recursive", False), ignore=("*.part", "~*", ".*"))
    return sorted(os.fsdecode(os.path.relpath(file.path, bytes(folder))) for file in found.files)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """1,200 folders in each other: deeper than Python's calls; too deep for one path, made step by step."""
    steps = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(1200):
        os.mkdir("d", dir_fd=steps[-1])
        steps.append(os.open("d", os.O_RDONLY, dir_fd=steps[-1]))
    yield tmp_path
    while len(steps) > 1:
        os.close(steps.pop())
        os.rmdir("d", dir_fd=steps[-1])
    os.close(steps.pop())


def test_subfolders_count_only_when_recursive_and_not_ignored(tmp_path: Path) -> None:
    """Wanted names, in any case; an ignored folder hides all that is in it."""
    for name in ("a.ZIP", "b.txt", "~c.zip", "room/d.zip", ".trash/e.zip", "half.part/f.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.ZIP"]
    assert names(tmp_path, recursive=True) == ["a.ZIP", "room/d.zip"]


def test_folders_in_folders_without_end_stop_nothing(deep: Path) -> None:
    """However deep they lie, the file beside them is found."""
    (deep / "scan.zip").touch()
    assert names(deep, recursive=True) == ["scan.zip"]


def test_unreadable_subfolder_is_told_and_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder without rights, and the files of the others are found."""
    for name in ("locked/a.zip", "open/b.zip"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    listed = module._listed

    def refuse(folder: bytes) -> list[os.DirEntry[bytes]]:
        if folder.endswith(b"locked"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(module, "_listed", refuse)
    assert names(tmp_path, recursive=True) == ["open/b.zip"]
    found = scan(bytes(tmp_path), recursive=True, ignore=())
    assert found.unreadable == ((bytes(tmp_path / "locked"), "Permission denied"),)


def test_missing_drop_folder_is_lost_and_not_empty(tmp_path: Path) -> None:
    """Nobody may take 'gone' for 'nothing in it'."""
    with pytest.raises(FolderLost, match="No such file"):
        scan(bytes(tmp_path / "drop"), recursive=False, ignore=())
