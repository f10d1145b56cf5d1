"""Everything the server holds, in one place: what the routes, the control surface and Receiver share."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from .batches import BatchStore
from .faults import FaultPlan
from .ledger import Ledger
from .processing import ProcessingQueue
from .sessions import SessionStore

BODY_LIMIT = 100 * 1024 * 1024
"""Bytes of a whole request body that the proxy lets through."""


class House:
    """The server's state. What is on disk below ``directory`` is read again at each start."""

    def __init__(
        self, directory: Path, token: str, *, keep_data: bool = True, body_limit: int = BODY_LIMIT
    ) -> None:
        self.directory = directory
        self.token = token
        self.body_limit = body_limit
        self.keep_data = keep_data
        self.plan = FaultPlan()
        self.ledger = Ledger()
        self.queue = ProcessingQueue()
        self.incoming = directory / "incoming"
        self.open()

    def open(self) -> None:
        """Read what is on disk, and clear away what a killed process left half received."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(parents=True)
        self.batches = BatchStore(self.directory / "batches", keep_data=self.keep_data)
        self.sessions = SessionStore(self.directory / "sessions", self.batches)

    def rotate_token(self, token: str | None = None) -> str:
        """From now on only this token is good; without one, a token that nobody knows yet."""
        self.token = token or secrets.token_urlsafe(16)
        return self.token
