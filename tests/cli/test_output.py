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
from tests.zips import write_zip


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


def in_shell(
    config: Path, words: str, redirection: str, shell: str = "sh"
) -> subprocess.CompletedProcess[str]:
    line = f'"$@" {words} {redirection}'
    program = [sys.executable, "-m", "omrwatchd", "--config", str(config)]
    return subprocess.run(
        [shell, "-c", line, shell, *program], capture_output=True, text=True, timeout=60, check=False
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


def test_closed_standard_error_stops_nothing(config: Path) -> None:
    """`2>&-`: a refusal keeps its exit code and spoils no output; the daemon does its work."""
    (config.parent / "queue.db").unlink()  # of a daemon that is at work
    done = in_shell(config, "run --until-idle", "2>&-")
    assert (done.returncode, done.stdout) == (0, "")
    config.write_text("[sevrer]\n")
    for words in ("check", "run"):
        done = in_shell(config, words, "2>&-")
        assert (done.returncode, done.stdout) == (2, ""), words


def without_reader(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Into a pipe whose other end is closed already: the first word that is written finds nobody."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, "-m", "omrwatchd", "--config", str(config), *words],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "words",
    [
        "check",
        "status",
        "status --json",
        "status --watch",
        "summary",
        "summary --format csv",
        "explain drop/a.zip",
        "pause",
        "--version",
        "--help",
        "status --help",
    ],
)
def test_reader_that_has_seen_enough_is_no_failure(config: Path, words: str) -> None:
    """The end of the pipe costs neither the exit code nor a word, whatever prints."""
    done = without_reader(config, *words.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_pipeline_that_ends_early_succeeds(config: Path) -> None:
    """`| head -1`, in a shell that asks each program of a pipeline how it ended."""
    program = [sys.executable, "-m", "omrwatchd", "--config", str(config)]
    for words in ("check", "status --json", "--help"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f'"$@" {words} | head -1', "bash", *program],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, ""), words


def test_verdict_does_not_depend_on_a_reader(config: Path, tmp_path: Path) -> None:
    """What is not delivered must not be shredded because somebody looked at one line of the answer."""
    for number in range(2000):  # more than a buffer
        (tmp_path / "scans" / f"{number:0100}").mkdir(parents=True)
        (tmp_path / "scans" / f"{number:0100}" / "a.zip").write_bytes(b"PK")
    for words in (("summary", "--verify", str(tmp_path / "scans")), ("doctor",)):
        done = without_reader(config, *words)
        assert (done.returncode, done.stderr) == (1, ""), words


def test_deed_is_done_to_its_end_without_a_reader(config: Path, tmp_path: Path) -> None:
    """Each file is added, though nobody reads of the first one."""
    names = [f"{number}.zip" for number in range(3)]
    files = [write_zip(tmp_path / name, sheets=1, size=1000) for name in names]
    done = without_reader(config, "add", *map(str, files))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "drop").iterdir()) == names


def test_failure_is_told_by_the_exit_code_alone_when_nobody_reads_errors(config: Path) -> None:
    """`2>&1 | head`: also where the sentence about a wrong setting finds no reader."""
    config.write_text("[sevrer]")
    done = in_shell(config, "check", "2>&1 | true; echo ${PIPESTATUS[0]}", "bash")
    assert done.stdout == "2\n"


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
