"""Where the commands print to is full, closed, or read no more: the real program, with real descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omrwatchd.clock import SystemClock
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.workers import WorkerRow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a station that has a queue."""
    (tmp_path / "drop").mkdir()
    file = tmp_path / "config.toml"
    file.write_text(
        f'[server]\nbase_url = "https://omr.example.org/api"\ntoken = "t"\n'
        f'[queue]\npath = "{tmp_path}/queue.db"\n[[watch]]\ndrop = "{tmp_path}/drop"\n'
    )
    engine, quick = open_database(tmp_path / "queue.db", create=True), open_quick(tmp_path / "queue.db")
    WorkerRow(engine, quick, SystemClock()).register()
    engine.dispose()
    quick.dispose()
    return file


def in_shell(config: Path, words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    line = f'"$@" {words} {redirection}'
    program = [sys.executable, "-m", "omrwatchd", "--config", str(config)]
    return subprocess.run(
        ["sh", "-c", line, "sh", *program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
@pytest.mark.parametrize(
    "words", ["--version", "check", "status", "status --watch", "summary --format csv", "pause"]
)
def test_output_that_can_not_be_written_is_one_sentence(
    config: Path, words: str, redirection: str, reason: str
) -> None:
    """A report on a full disk is no report: exit code 1, and nothing of Python's own."""
    done = in_shell(config, words, redirection)
    assert done.returncode == 1
    assert done.stderr == f"omrwatchd: The output can't be written: {reason}.\n"


def test_reader_that_has_seen_enough_needs_no_word(config: Path) -> None:
    """`| head`: the end of the pipe is the end."""
    done = in_shell(config, "check", "| head -c 1")
    assert (done.stdout[:1], done.stderr) == (done.stdout, "")


def test_watch_ends_with_its_reader(config: Path) -> None:
    """Also while nothing changes, so that nothing would be written."""
    program = [sys.executable, "-m", "omrwatchd", "--config", str(config), "status", "--watch"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert os.read(watching.stdout.fileno(), 4096)
        watching.stdout.close()
        assert watching.wait(30) == 0
        assert watching.stderr.read() == b""
