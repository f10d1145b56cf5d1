"""ZIPs as scanning software saves them: stored pictures, here of random bytes."""

from __future__ import annotations

import hashlib
import random
import zipfile
from pathlib import Path


def write_zip(path: Path, *, sheets: int = 3, size: int = 3_000, seed: int = 0) -> Path:
    """A ZIP of ``sheets`` stored entries of about ``size`` bytes in all."""
    source = random.Random(f"{seed}-{path.name}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(sheets):
            archive.writestr(f"sheet-{number:05}.jpg", source.randbytes(max(1, size // sheets)))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
