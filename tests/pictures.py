"""Folders of pictures as scanning software saves them, here of random bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path


def write_pictures(folder: Path, names: Sequence[str], *, size: int = 2_000) -> Path:
    """A folder with pictures of ``size`` bytes each, written in the order given."""
    source = random.Random(folder.name)
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(source.randbytes(size))
    return folder
