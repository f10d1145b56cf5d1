"""`omrwatchd status --watch`: the picture, alive; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.live import Live

from omrwatchd.cli.changes import Changes
from omrwatchd.cli.frame import Frame
from omrwatchd.cli.output import reader_is_gone
from omrwatchd.cli.pace import Pace
from omrwatchd.clock import Clock
from omrwatchd.queue.views import Views

FRAME_SECONDS = 0.25
PLAIN_SECONDS = 1.0
ROWS = 100
"""Of each kind that are read: more than a screen has lines."""


def watch(views: Views, cooldown_seconds: float, clock: Clock) -> None:
    """Show the queue until `q`, Ctrl-C, or the end of the terminal or pipe."""
    for stale in ("COLUMNS", "LINES"):
        # where a shell exports them they are the size at the start: the picture follows the terminal
        os.environ.pop(stale, None)
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal and not console.is_dumb_terminal:
            _alive(console, views, cooldown_seconds, clock)
        else:
            _plain(views, clock)


def _plain(views: Views, clock: Clock) -> None:
    changes, never = Changes(clock.now()), threading.Event()
    while not reader_is_gone():
        for line in changes.lines(views.overview(ROWS, clock.now())):
            print(f"{_time(clock)} {line}", flush=True)
        clock.wait(never, PLAIN_SECONDS)


def _time(clock: Clock) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(clock.now()).strftime("%H:%M:%S")


def _alive(console: Console, views: Views, cooldown_seconds: float, clock: Clock) -> None:
    pace = Pace(cooldown_seconds, clock.now())
    with _Terminal() as terminal, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            overview = views.overview(ROWS, pace.since)
            pace.see(overview, clock.now())
            live.update(Frame(overview, pace, cooldown_seconds, clock.now()), refresh=True)
            if terminal.quits_within(FRAME_SECONDS):
                return
            if terminal.suspended:
                live.stop()
                terminal.sleep()
                live.start()


class _Terminal:
    """Single keys and signals; afterwards the terminal is as it was."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._bell, self._ringer = socket.socketpair()
        self._undo = contextlib.ExitStack()
        self.suspended = False

    def __enter__(self) -> _Terminal:
        with contextlib.ExitStack() as undo:
            undo.callback(self._ringer.close)
            undo.callback(self._bell.close)
            undo.enter_context(_handled(self._on_signal))
            self._bell.setblocking(False)
            self._ringer.setblocking(False)
            # a signal ends the wait for keys at once: a new size is drawn without delay
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._ringer.fileno()))
            if self._keys is not None:
                before = termios.tcgetattr(self._keys)
                undo.callback(termios.tcsetattr, self._keys, termios.TCSADRAIN, before)
                tty.setcbreak(self._keys)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_of: object) -> None:
        self._undo.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self.suspended = True
        elif number != signal.SIGWINCH:
            raise KeyboardInterrupt

    def quits_within(self, seconds: float) -> bool:
        """Wait so long, or until a key or a signal; whether it is the key that ends this."""
        watched = [self._bell] if self._keys is None else [self._bell, self._keys]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._bell in ready:
            self._bell.recv(1024)
        if self._keys in ready and self._keys is not None:
            pressed = os.read(self._keys, 1024)
            return not pressed or b"q" in pressed.lower()
        return False

    def sleep(self) -> None:
        """Ctrl-Z: the shell gets its terminal back until it says `fg`."""
        self.suspended = False
        shown = None if self._keys is None else termios.tcgetattr(self._keys)
        if self._keys is not None and shown is not None:
            echoing = [*shown]
            echoing[3] |= termios.ECHO | termios.ICANON
            termios.tcsetattr(self._keys, termios.TCSADRAIN, echoing)
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._keys is not None:
            tty.setcbreak(self._keys)


@contextlib.contextmanager
def _handled(handler: object) -> Iterator[None]:
    numbers = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
