"""Where the commands print to: any letter goes, and what could not be written is no success.

A reader that has seen enough (``| head``) is another matter: nothing is amiss, so the command goes on to its
end in silence. Its exit code is its own verdict (`doctor`, `summary --verify`), and what it was asked for is
done whole (`add`, `retry --failed`). To die of SIGPIPE, as a filter does, would cost both.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from pathlib import Path


class OutputLost(OSError):
    """What was printed can't be written where it should go."""


class _Descriptor(io.FileIO):
    """Standard output's, whose errors are told from all others."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
        except OSError as error:
            raise OutputLost(*error.args) from error


class _Closed(io.TextIOBase):
    """In the place of a standard output that was closed before the start (``>&-``)."""

    def write(self, _text: str, /) -> int:
        raise OutputLost(errno.EBADF, os.strerror(errno.EBADF))

    def reconfigure(self, **_given: object) -> None:
        """As of a TextIOWrapper."""


def prepare() -> None:
    """Names come from anywhere, and a terminal's encoding need not know them: '?' is no traceback."""
    if sys.stderr is None:  # closed before the start: what would be told there is told nowhere
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the program runs
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    if sys.stdout is None:
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.fileno() == 1:
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(1, "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="replace",
            line_buffering=sys.stdout.isatty(),
        )


def discard() -> None:
    """Nothing more is written: what waits to be would fail again when the program ends."""
    if not isinstance(sys.stdout, _Closed):
        _silence(1)


def complain(words: str) -> None:
    """A line on standard error; where that can't be written either, the exit code alone has to tell."""
    try:
        print(words, file=sys.stderr, flush=True)
    except OSError:
        _silence(2)


def _silence(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), descriptor)


def reader_is_gone() -> bool:
    """Whether nobody can read any more what is printed: the other end of the pipe, the terminal is closed."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # there is none: the next word that is written says so
        return False
    return bool(poll.poll(0))
