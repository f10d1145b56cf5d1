"""`python -m omrwatchd`, and the program itself: first the signals, then all that takes time to load."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    if "run" in sys.argv[1:]:
        # until the daemon listens itself a stop is no failure, and a wish for a reload waits: it is no end
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        signal.signal(signal.SIGTERM, _leave)
    from omrwatchd.cli.main import entry

    entry()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
