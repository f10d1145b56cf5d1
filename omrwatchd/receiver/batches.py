"""Batches: files that arrived whole, on disk with what was said about them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = 1024 * 1024
_RECORD = "batch.json"


@dataclass(frozen=True)
class BatchFile:
    """One file of a batch; ``name`` is the sender's and never a path of ours."""

    name: str
    size: int
    sha256: str
    path: Path


@dataclass(frozen=True)
class Delivery:
    """What the sender said about the files."""

    upload_id: str | None
    filename: str
    upload_type: str
    task_id: str | None
    notes: str | None
    profile_id: int | None
    idempotency_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch(Delivery):
    """A batch as it is kept.

    For images ``path`` is a folder, ``filename`` the first picture's, ``sha256`` over all in order.
    """

    batch_id: str = ""
    size: int = 0
    sha256: str = ""
    started: bool = False
    created: float = 0.0
    path: Path = Path()
    files: tuple[BatchFile, ...] = ()


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Put JSON in place in one step: a reader sees the old or the new, never half."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record, default=str), encoding="utf-8")
    os.replace(temporary, path)


class BatchStore:
    """All batches below a folder, known again after a restart. Safe for threads; every method may block.

    Args:
        keep_data: False keeps the records only; a batch's ``path`` is then where the data would be.
    """

    def __init__(self, folder: Path, *, keep_data: bool = True) -> None:
        self._folder = folder
        self._keep_data = keep_data
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover)
        read = (_load(record) for record in folder.glob(f"*/{_RECORD}"))
        self._batches = {batch.batch_id: batch for batch in sorted(read, key=lambda batch: batch.created)}

    def file(self, delivery: Delivery, items: Sequence[tuple[str, Sequence[Path]]]) -> Batch:
        """Make a batch of named files, each put together from its pieces in order.

        The whole folder appears in one rename: a batch that is killed halfway was never there.
        """
        batch_id = uuid.uuid4().hex
        building = self._folder / f".{batch_id}"
        building.mkdir()
        home = self._folder / batch_id
        # A picture's own hash is of no use for one large file, and would take as long again.
        whole = hashlib.sha256()
        files = []
        for number, (name, pieces) in enumerate(items):
            stored = f"{number:06d}.bin" if delivery.upload_type == "images" else "upload.zip"
            own = hashlib.sha256() if len(items) > 1 else None
            size = self._assemble(building / stored, pieces, [whole, own] if own else [whole])
            files.append(BatchFile(name, size, (own or whole).hexdigest(), home / stored))
        batch = Batch(
            **vars(delivery),
            batch_id=batch_id,
            size=sum(file.size for file in files),
            sha256=whole.hexdigest(),
            created=time.time(),
            path=home if delivery.upload_type == "images" else files[0].path,
            files=tuple(files),
        )
        write_record(building / _RECORD, dataclasses.asdict(batch))
        os.replace(building, home)
        with self._lock:
            self._batches[batch_id] = batch
        return batch

    def _assemble(self, target: Path, pieces: Sequence[Path], hashes: Sequence[hashlib._Hash]) -> int:
        size = 0
        with open(target, "wb") if self._keep_data else contextlib.nullcontext() as out:
            for piece in pieces:
                with open(piece, "rb") as source:
                    while block := source.read(_BLOCK):
                        size += len(block)
                        for digest in hashes:
                            digest.update(block)
                        if out:
                            out.write(block)
        return size

    def start(self, batch_id: str) -> bool:
        """Note that its processing was started; False when there is no such batch."""
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None:
                return False
            batch = dataclasses.replace(batch, started=True)
            write_record(self._folder / batch_id / _RECORD, dataclasses.asdict(batch))
            self._batches[batch_id] = batch
            return True

    def get(self, batch_id: str) -> Batch | None:
        """The batch of this id."""
        with self._lock:
            return self._batches.get(batch_id)

    def of_upload(self, upload_id: str) -> Batch | None:
        """The batch that an upload session became."""
        return next((batch for batch in self.all() if batch.upload_id == upload_id), None)

    def all(self) -> list[Batch]:
        """Every batch, oldest first."""
        with self._lock:
            return list(self._batches.values())

    def duplicates(self) -> list[str]:
        """The ids of batches whose content an earlier batch already had."""
        seen: set[str] = set()
        again = []
        for batch in self.all():
            if batch.sha256 in seen:
                again.append(batch.batch_id)
            seen.add(batch.sha256)
        return again


def _load(record: Path) -> Batch:
    data = json.loads(record.read_text(encoding="utf-8"))
    data["path"] = Path(data["path"])
    data["files"] = tuple(BatchFile(**{**file, "path": Path(file["path"])}) for file in data["files"])
    data["idempotency_keys"] = tuple(data["idempotency_keys"])
    return Batch(**data)
