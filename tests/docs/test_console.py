"""The commands in the documents do what is written there: each document is followed from top to bottom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.station import commands, station

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if commands(path)]


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_console_blocks_work(document: Path, tmp_path: Path) -> None:
    """A reader who types them on a station like the one described gets no error that is not announced."""
    with station(tmp_path) as here:
        for line, expected in commands(document):
            if line.startswith("sqlite3 ") and shutil.which("sqlite3") is None:
                continue
            done = here.run(line)
            assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, line


def test_documents_have_commands_to_follow() -> None:
    """The test above does not pass for want of blocks."""
    assert any(path.name.startswith(("operations", "OPERATIONS")) for path in DOCUMENTS)
