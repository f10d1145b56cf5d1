"""What systemd is told (sd_notify(3)): ready, stopping, reloading, one line for people, signs of life."""

from __future__ import annotations

import os

import sdnotify


class Notifier:
    """Speaks to the service manager when there is one; else does nothing.

    Each message goes alone: sdnotify loses a whole message, with all that is in it, to one bad character.
    """

    def __init__(self) -> None:
        self._socket = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        self._status = ""

    @property
    def heard(self) -> bool:
        """Whether there is a service manager that listens."""
        return self._socket is not None

    def _say(self, message: str) -> None:
        if self._socket is not None:
            self._socket.notify(message)

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self, monotonic: float) -> None:
        """``monotonic``: CLOCK_MONOTONIC now, in seconds; `ready` is owed afterwards."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic * 1_000_000)}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; said when it is another than the last one."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={plain(text)}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._say("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.socket.close()


def plain(text: str) -> str:
    """One line of printable ASCII, the rest as backslash escapes: sdnotify encodes as Latin-1."""
    return "".join(
        letter if " " <= letter <= "~" else letter.encode("unicode_escape").decode() for letter in text
    )


def watchdog_seconds() -> float | None:
    """After so long without a sign of life systemd kills us (sd_watchdog_enabled(3)); None: never."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in (None, str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
