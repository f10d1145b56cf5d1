"""Who saves files into the drop folder, and what they were."""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.model import display_name
from tests.zips import sha256, write_zip

MOST_SHEETS = 20
SIDECAR = 'task_id = "7"\nnotes = "room 12"\n'
ODD_NAMES = [
    b"Pr\xfcfung %d.zip",
    b'a "b"\n%d.zip',
    b"  two  spaces %d.ZIP",
    b"%d" + b"x" * 240 + b".zip",
    b"--%d.zip",
]


@dataclass(frozen=True)
class Dropped:
    """A file that somebody put into the drop folder, as it was."""

    name: bytes
    kind: str
    digest: str
    sheets: int
    sidecar: bool

    @property
    def shown(self) -> str:
        return display_name(self.name)

    @property
    def parts(self) -> int:
        return max(1, -(-self.sheets // MOST_SHEETS))


class Scanner(threading.Thread):
    """Saves files into the drop folder, one after the other, in the ways that scanning software does."""

    def __init__(self, folder: Path, seed: str, files: int, seconds: float) -> None:
        super().__init__(name="scanner")
        self._folder, self._random = folder, random.Random(f"{seed}-scanner")
        self._files, self._seconds = files, seconds
        self._pause = threading.Event()
        self.dropped: list[Dropped] = []

    def run(self) -> None:
        for number in range(self._files):
            self._save(number)
            self._pause.wait(self._random.uniform(0, 2) * self._seconds / self._files)

    def _save(self, number: int) -> None:
        kinds = {"small": 40, "large": 22, "many": 10, "very many": 6, "odd": 10, "broken": 8, "copy": 8}
        (kind,) = self._random.choices(list(kinds), list(kinds.values()))
        name = self._random.choice(ODD_NAMES) % number if kind == "odd" else b"scan-%03d.zip" % number
        made, sheets = self._made(kind, number)
        sidecar = kind in ("small", "large", "many") and self._random.random() < 0.3
        self.dropped.append(Dropped(name, kind, sha256(made), sheets, sidecar))
        target = os.path.join(os.fsencode(self._folder / "drop"), name)
        if sidecar:
            Path(os.fsdecode(target + b".toml")).write_text(SIDECAR)
        if self._random.random() < 0.5:
            os.rename(made, target)
        else:
            self._copy_slowly(made, target)
            made.unlink()

    def _made(self, kind: str, number: int) -> tuple[Path, int]:
        """A new file outside the drop folder, and how many sheets are in it."""
        path = self._folder / f"made-{number:03}"
        earlier = [each for each in self.dropped if each.kind in ("small", "large", "many")]
        if kind == "copy" and earlier:
            model = self._random.choice(earlier)
            path.write_bytes((self._folder / "copies" / model.digest).read_bytes())
            return path, model.sheets
        sheets = self._random.randint(3, MOST_SHEETS) if "many" not in kind else self._random.randint(30, 70)
        size = {"large": 2_500_000, "very many": 6_000_000}.get(kind, 30_000)
        write_zip(path, sheets=sheets, size=int(size * self._random.uniform(0.7, 2)), seed=number)
        if kind == "broken":
            whole, sheets = path.read_bytes(), 0
            path.write_bytes(self._random.choice([whole[: len(whole) // 2], b"", b"no ZIP at all"]))
        (self._folder / "copies").mkdir(exist_ok=True)
        (self._folder / "copies" / sha256(path)).write_bytes(path.read_bytes())
        return path, sheets

    def _copy_slowly(self, made: Path, target: bytes) -> None:
        data = made.read_bytes()
        with open(target, "wb") as file:
            step = max(1, len(data) // self._random.randint(2, 6) + 1)
            for start in range(0, len(data), step):
                file.write(data[start : start + step])
                file.flush()
                self._pause.wait(self._random.uniform(0.05, 0.4))
