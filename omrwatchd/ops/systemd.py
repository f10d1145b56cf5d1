"""What systemd is told (sd_notify(3)): ready and stopping."""

from __future__ import annotations

import sdnotify


class Notifier:
    """Speaks to the service manager when there is one; else does nothing."""

    def __init__(self) -> None:
        self._socket = sdnotify.SystemdNotifier()

    def ready(self) -> None:
        self._socket.notify("READY=1")

    def stopping(self) -> None:
        self._socket.notify("STOPPING=1")
