"""Upload sessions: the chunks of files that are still arriving."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from .answers import Refusal
from .batches import Batch, BatchStore, write_record
from .fields import Chunk

_RECORD = "session.json"


@dataclass
class Session:
    """One file on its way. ``sizes`` has every chunk held, ``acknowledged`` when it was first (monotonic)."""

    upload_id: str
    folder: Path
    agreed: dict[str, str | int | None]
    sizes: dict[int, int] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[int, float] = field(default_factory=dict)
    forgotten: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def save(self) -> None:
        """Put the record on disk."""
        record = {"agreed": self.agreed, "sizes": self.sizes, "keys": self.keys, "forgotten": self.forgotten}
        write_record(self.folder / _RECORD, record)

    def drop_chunks(self) -> None:
        """Remove the chunks' bytes; the record stays."""
        for path in self.folder.glob("[0-9]*"):
            path.unlink()


def _agreed(chunk: Chunk) -> dict[str, str | int | None]:
    sheets = chunk.sheets
    return {
        "filename": chunk.filename,
        "total_chunks": chunk.total,
        "upload_type": sheets.upload_type,
        "task_id": sheets.task_id,
    }


class SessionStore:
    """All sessions below a folder, known again after a restart. Safe for threads; every method may block."""

    def __init__(self, folder: Path, batches: BatchStore) -> None:
        self._folder = folder
        self._batches = batches
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            self._load(path)

    def accept(self, chunk: Chunk, arrived: float, key: str | None) -> tuple[str, str | None]:
        """Take a chunk's file; returns the upload id, and the batch id once the file is whole.

        Args:
            arrived: when the request began (monotonic): a final chunk may not race the others.
            key: the request's Idempotency-Key, for the record.

        Raises:
            Refusal: it does not fit the session, or there is none.
        """
        session = self._open(chunk) if chunk.upload_id is None else self._find(chunk.upload_id)
        with session.lock:
            if session.forgotten:
                raise _gone()
            _check_agreement(session, chunk)
            batch = self._batches.of_upload(session.upload_id)
            if batch is None:
                _check_order(session, chunk, arrived)
                self._keep(session, chunk, key)
                batch = self._finish(session, chunk) if chunk.final else None
            elif session.sizes.get(chunk.index) != chunk.part.size:
                raise Refusal(409, f"the file is complete, and its chunk {chunk.index} had another size")
            return session.upload_id, batch.batch_id if batch else None

    def forget(self, upload_id: str | None = None) -> None:
        """Expire one session, or all: from now on they answer 410."""
        with self._lock:
            chosen = [s for s in self._sessions.values() if upload_id in (None, s.upload_id)]
        for session in chosen:
            with session.lock:
                session.forgotten = True
                session.drop_chunks()
                session.save()

    def _open(self, chunk: Chunk) -> Session:
        upload_id = uuid.uuid4().hex
        session = Session(upload_id, self._folder / upload_id, _agreed(chunk))
        session.folder.mkdir()
        session.save()
        with self._lock:
            self._sessions[upload_id] = session
        return session

    def _find(self, upload_id: str) -> Session:
        with self._lock:
            session = self._sessions.get(upload_id)
        if session is None:
            raise Refusal(404, "field 'upload_id': there is no such upload")
        return session

    def _keep(self, session: Session, chunk: Chunk, key: str | None) -> None:
        os.replace(chunk.part.path, session.folder / str(chunk.index))
        session.sizes[chunk.index] = chunk.part.size
        # The first acknowledgement counts: a late twin of a chunk sent twice must not undo it.
        session.acknowledged.setdefault(chunk.index, time.monotonic())
        if key is not None:
            session.keys[chunk.index] = key
        session.save()

    def _finish(self, session: Session, chunk: Chunk) -> Batch:
        keys = tuple(session.keys[index] for index in sorted(session.keys))
        delivery = chunk.sheets.delivery(session.upload_id, chunk.filename, keys)
        pieces = [session.folder / str(index) for index in range(chunk.total)]
        batch = self._batches.file(delivery, [(chunk.filename, pieces)])
        session.drop_chunks()
        return batch

    def _load(self, folder: Path) -> None:
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            # Killed between the folder and its record: nobody was ever told of this session.
            shutil.rmtree(folder)
            return
        session = Session(folder.name, folder, record["agreed"], forgotten=record["forgotten"])
        session.keys = {int(index): key for index, key in record["keys"].items()}
        session.sizes = {int(index): size for index, size in record["sizes"].items()}
        if session.forgotten or self._batches.of_upload(folder.name):
            session.drop_chunks()
        else:
            session.sizes = {int(path.name): path.stat().st_size for path in folder.glob("[0-9]*")}
            session.acknowledged = dict.fromkeys(session.sizes, float("-inf"))
        self._sessions[folder.name] = session


def _gone() -> Refusal:
    return Refusal(410, "field 'upload_id': this upload has expired")


def _check_agreement(session: Session, chunk: Chunk) -> None:
    for name, value in _agreed(chunk).items():
        if session.agreed[name] != value:
            first = session.agreed[name]
            raise Refusal(400, f"field {name!r} differs from chunk 0's: {value!r}, not {first!r}")


def _check_order(session: Session, chunk: Chunk, arrived: float) -> None:
    if chunk.final:
        others = range(chunk.total - 1)
        open_ = [index for index in others if session.acknowledged.get(index, float("inf")) > arrived]
        if open_:
            raise Refusal(409, f"the final chunk came before chunk {open_[0]} was acknowledged")
    elif chunk.index > 0:
        free = (0, chunk.index, chunk.total - 1)
        middle = {size for index, size in session.sizes.items() if index not in free}
        if middle - {chunk.part.size}:
            raise Refusal(400, f"field 'chunk': {chunk.part.size} bytes, but others have {middle.pop()}")
