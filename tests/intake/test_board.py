from __future__ import annotations

import os
from pathlib import Path

import pytest

from omrwatchd.errors import Problem
from omrwatchd.intake.board import _replace
from omrwatchd.model import Status
from omrwatchd.settings import Watch
from tests.intake.conftest import OpenOffice
from tests.mounts import mount, needs_root, unmounted_at_the_end
from tests.waiting import until
from tests.zips import write_zip

BOARD = "_omrwatchd-status.txt"


def test_board_tells_in_plain_words_what_goes_on(open_office: OpenOffice) -> None:
    """What waits, arrives and failed today stands in the drop folder; at the end, that we stopped."""
    with open_office(status_board=True, give_up_seconds=60) as office:
        board = office.drop / BOARD
        until(lambda: board.exists() and "Delivered today: 0" in board.read_text())
        write_zip(office.drop / "good.zip")
        (office.drop / "half.zip").write_bytes(b"PK\x03\x04 not yet")
        until(lambda: "half.zip: half.zip is not" in board.read_text())
        assert "Waiting: 1\n  good.zip" in board.read_text()
        job = office.queued("good.zip")
        office.store.end(job, Status.ERROR, Problem("refused", "The server said: no", "Ask."))
        until(lambda: "Failed today: 1\n  good.zip: The server said: no" in board.read_text())
    assert "Now: stopped" in board.read_text()
    assert sorted(os.listdir(office.drop)) == [BOARD, "good.zip", "half.zip"]


def test_board_follows_no_link(open_office: OpenOffice) -> None:
    """A link put in the board's place by somebody is replaced; what it points to stays as it is."""
    with open_office(status_board=False) as office:
        victim = office.folder / "victim"
        victim.write_text("precious")
        (office.drop / BOARD).symlink_to(victim)
        (office.drop / f".{BOARD}.tmp").symlink_to(victim)
    with open_office(status_board=True) as office:
        until(lambda: not (office.drop / BOARD).is_symlink())
    assert victim.read_text() == "precious"


def test_board_tells_of_its_own_folder_alone(open_office: OpenOffice, tmp_path: Path) -> None:
    """What arrives in one folder is nothing to the people of another; below it, the path is told."""
    (tmp_path / "second").mkdir()
    second = Watch(name="second", drop=tmp_path / "second", recursive=True, settle_seconds=3600)
    with open_office(second, status_board=True, settle_seconds=3600) as office:
        (tmp_path / "second" / "hall").mkdir()
        write_zip(tmp_path / "second" / "hall" / "theirs.zip")
        write_zip(office.drop / "ours.zip")
        boards = [office.drop / BOARD, tmp_path / "second" / BOARD]
        until(lambda: all(board.exists() and "Arriving: 1" in board.read_text() for board in boards))
        ours, theirs = (board.read_text() for board in boards)
        assert "ours.zip" in ours
        assert "theirs.zip" not in ours
        assert "hall/theirs.zip: waiting until" in theirs
        assert "ours.zip" not in theirs


def test_board_is_one_that_any_editor_shows_and_anybody_reads(
    open_office: OpenOffice, tmp_path: Path
) -> None:
    """UTF-8 with its mark, lines that Notepad breaks, one line for a hostile name, rights as the folder's."""
    before = os.umask(0o077)
    try:
        with open_office(status_board=True, settle_seconds=3600) as office:
            office.drop.chmod(0o775)
            board = office.drop / BOARD
            for name in (b"Pr\xfcfung\n\rArriving: 99.zip", "Prüfung\u202egpj.zip".encode()):
                os.rename(write_zip(tmp_path / "it"), os.path.join(os.fsencode(office.drop), name))
            until(lambda: board.exists() and "Arriving: 2" in board.read_text())
            raw = board.read_bytes()
            mode = board.stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert raw.startswith(b"\xef\xbb\xbfomrwatchd: ")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    lines = raw.decode("utf-8-sig").splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("Arriving:") for line in lines) == 1
    assert mode == 0o664


@needs_root
def test_board_on_a_full_disk_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """A disk that takes only a part of it: the old board stays whole, and nothing is left beside it."""
    folder = tmp_path / "drop"
    folder.mkdir()
    with unmounted_at_the_end(folder):
        mount("-t", "tmpfs", "-o", "size=16k", "none", folder)
        _replace(bytes(folder), b"old")
        (folder / "scan.zip").write_bytes(bytes(8192))
        with pytest.raises(OSError, match="No space left"):
            _replace(bytes(folder), b"new" * 4000)
        assert (folder / BOARD).read_bytes() == b"old"
        assert sorted(os.listdir(folder)) == [BOARD, "scan.zip"]
