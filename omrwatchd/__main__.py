"""`python -m omrwatchd`, and the program itself: first the signals, then all that takes time to load."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    _fill_standard_descriptors()
    if "run" in sys.argv[1:]:
        from omrwatchd.signals import signals

        # a stop before the daemon is at work is no failure, and a wish for a reload waits: it is no end
        signals().hear(signal.SIGTERM, signal.SIGHUP)
    from omrwatchd.cli.main import entry

    entry()


def _fill_standard_descriptors() -> None:
    """What was closed before the start (``2>&-``) is no place for the next file or socket."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


if __name__ == "__main__":
    main()
