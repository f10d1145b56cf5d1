from __future__ import annotations

import os

from omrwatchd.errors import Problem
from omrwatchd.model import Status
from tests.intake.conftest import OpenOffice
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
