"""`python -m omrwatchd`, and the program itself: first the signals, then all that takes time to load."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    if "run" in sys.argv[1:]:
        from omrwatchd.signals import signals

        # a stop before the daemon is at work is no failure, and a wish for a reload waits: it is no end
        signals().hear(signal.SIGTERM, signal.SIGHUP)
    from omrwatchd.cli.main import entry

    entry()


if __name__ == "__main__":
    main()
