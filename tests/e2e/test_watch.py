"""`status --watch` in a real terminal: a pseudo-terminal with a size, keys and signals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip

ALTERNATE_SCREEN, NORMAL_SCREEN, SHOWN_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Terminal:
    """A terminal that a person looks at."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(24, 80)
        self.seen = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self) -> bytes:
        """All that has been shown until now."""
        while select.select([self.ours], [], [], 0)[0]:
            self.seen += os.read(self.ours, 65536)
        return self.seen

    def press(self, key: bytes) -> None:
        os.write(self.ours, key)

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.ours)
    os.close(made.theirs)


def widest(shown: bytes) -> int:
    """Columns of the newest whole picture; 0 when there is none yet."""
    pictures = shown.decode("utf-8", "replace").split("\x1b[H")[1:-1]
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", pictures[-1]).splitlines() if pictures else []
    return max((len(line.rstrip()) for line in lines), default=0)


def watching(machine: Machine, terminal: Terminal) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        machine.command("status", "--watch"),
        stdin=terminal.theirs,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        # a shell that exports the size it had at the start
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )
    machine.running.append(process)
    return process


def test_upload_is_shown_and_q_ends_it(machine: Machine, terminal: Terminal) -> None:
    """A long Japanese name, its percent and the time left; q gives the terminal back as it was."""
    machine.receiver.add_fault(Fault(match="chunk", action="delay", seconds=0.5, times=-1))
    machine.start()
    modes = terminal.modes
    process = watching(machine, terminal)
    write_zip(machine.drop / ("数学期末試験-" + "ä" * 60 + ".zip"), size=30 * MIB)
    until(lambda: "数学期末試験" in terminal.read().decode("utf-8", "replace"))
    until(lambda: b"MiB/s" in terminal.read() and b" left" in terminal.read())
    assert ALTERNATE_SCREEN in terminal.seen
    terminal.press(b"q")
    assert process.wait(5) == 0
    assert NORMAL_SCREEN in terminal.read()
    assert SHOWN_CURSOR in terminal.seen.rpartition(NORMAL_SCREEN)[0][-40:] + terminal.seen[-40:]
    assert terminal.modes == modes
    assert machine.running[0].poll() is None


def test_a_new_size_is_drawn_at_once(machine: Machine, terminal: Terminal) -> None:
    """After a resize the next picture has the new width; Ctrl-C ends it."""
    process = watching(machine, terminal)
    until(lambda: b"q ends this" in terminal.read())
    terminal.seen = b""
    terminal.resize(10, 34)
    os.kill(process.pid, signal.SIGWINCH)
    until(lambda: 0 < widest(terminal.read()) <= 34, 10, "a narrow picture")
    terminal.press(b"\x03")
    assert process.wait(5) == 0
    assert NORMAL_SCREEN in terminal.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(machine: Machine, terminal: Terminal, number: int) -> None:
    """Ended from elsewhere, or by a lost connection, it leaves no half-drawn screen behind."""
    modes = terminal.modes
    process = watching(machine, terminal)
    until(lambda: b"q ends this" in terminal.read())
    process.send_signal(number)
    assert process.wait(5) == 0
    assert NORMAL_SCREEN in terminal.read()
    assert terminal.modes == modes


def test_suspended_and_brought_back(machine: Machine, terminal: Terminal) -> None:
    """Ctrl-Z gives the shell its terminal; `fg` brings the picture back."""
    process = watching(machine, terminal)
    until(lambda: b"q ends this" in terminal.read())
    terminal.press(b"\x1a")

    def state() -> str:
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    until(lambda: state() == "T", 5)
    assert NORMAL_SCREEN in terminal.read()
    terminal.seen = b""
    process.send_signal(signal.SIGCONT)
    until(lambda: ALTERNATE_SCREEN in terminal.read() and b"q ends this" in terminal.read(), 5)
    terminal.press(b"q")
    assert process.wait(5) == 0
