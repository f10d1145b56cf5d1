"""A service manager's ear: the datagram socket that sd_notify(3) speaks to."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.waiting import until


class Manager:
    """Hears the messages of a daemon; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All messages so far, oldest first."""
        while True:
            try:
                self.messages.append(self._socket.recv(65536).decode("ascii"))
            except BlockingIOError:
                return self.messages

    def await_message(self, words: str, seconds: float = 20.0, *, after: int = 0) -> str:
        """The first message, not counting the ``after`` oldest, that holds ``words``."""
        return until(
            lambda: next((message for message in self.heard()[after:] if words in message), None),
            seconds,
            f"a message with {words!r} (heard: {self.messages[-5:]})",
        )

    def close(self) -> None:
        self._socket.close()
