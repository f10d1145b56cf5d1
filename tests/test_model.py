from __future__ import annotations

from pathlib import Path

import pytest

from omrwatchd.model import FINAL, MOVES, IllegalMove, Status, check_move, state_diagram


def test_every_status_has_its_row() -> None:
    """MOVES speaks of every status, and only an operator's retry leaves a final one."""
    assert set(MOVES) == set(Status)
    assert {new for old in FINAL for new in MOVES[old]} == {Status.PENDING}
    assert MOVES[Status.COMPLETED] == frozenset()


def test_any_other_move_is_refused() -> None:
    """What MOVES does not know raises."""
    for old in Status:
        for new in Status:
            if new in MOVES[old]:
                check_move(old, new)
            else:
                with pytest.raises(IllegalMove):
                    check_move(old, new)


def test_diagram_in_the_docs_is_made_from_the_table() -> None:
    """docs/ARCHITECTURE.md shows exactly the moves that the program allows."""
    document = Path(__file__).parent.parent / "docs" / "ARCHITECTURE.md"
    assert f"```mermaid\n{state_diagram()}\n```" in document.read_text()
