"""The daemon in a process of its own, on a clock on which a day is two minutes.

    python -m tests.e2e.hurried_day CONFIG BEGAN MIDNIGHT

Only the clock that is handed in is hurried: what the daemon reads of time and every wait of it. Its threads,
files, queue, signals and sockets are real, and so are the time limits of the sockets.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from omrwatchd.clock import SystemClock
from omrwatchd.ops import logs
from omrwatchd.service import Daemon
from omrwatchd.settings import load

FACTOR = 720.0
HOUR = 3600.0


class DayClock:
    """At the real time ``began`` it was ``midnight`` here (both seconds since the epoch)."""

    def __init__(self, began: float, midnight: float) -> None:
        self._clock = SystemClock()
        self._began = began
        self._midnight = midnight

    def now(self) -> float:
        return self._midnight + (self._clock.now() - self._began) * FACTOR

    def monotonic(self) -> float:
        return self._clock.monotonic() * FACTOR

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        return self._clock.wait(event, None if seconds is None else seconds / FACTOR)

    def hour(self) -> float:
        """Hours since midnight."""
        return (self.now() - self._midnight) / HOUR


def main() -> int:
    file, began, midnight = sys.argv[1:]
    settings = load(Path(file))
    logs.configure(settings.log, settings.server)
    return Daemon(settings, DayClock(float(began), float(midnight)), file=Path(file)).run()


if __name__ == "__main__":
    sys.exit(main())
