"""What is dropped in the demo, and how a scanner saves it: slowly, growing, under its final name."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.cli.demo.sheets import jpeg_sheets, raw_sheets

WRITE_SECONDS = 2.5
"""How long the scanner takes for one ZIP."""
WRITE_STEPS = 10


@dataclass(frozen=True, slots=True)
class Exam:
    """One ZIP of the demo."""

    path: Path
    """Where it lies ready, outside the drop folder."""
    good: bool
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


def make_exams(folder: Path) -> list[Exam]:
    """Two small ZIPs, one above the limit of a single request, one that is cut off in the middle."""
    folder.mkdir()
    exams = [
        _exam(folder / "Übungstest Schüler.zip", jpeg_sheets(12, "Übungstest", 1), "jpg"),
        _exam(folder / "final-exam-2026.zip", raw_sheets(64, "Final examination 2026", 2), "tif"),
        _exam(folder / "math-10a.zip", jpeg_sheets(30, "Mathematics 10a", 3), "jpg"),
    ]
    cut = folder / "history-cut-off.zip"
    _exam(cut, jpeg_sheets(20, "History", 4), "jpg")
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    return [*exams, Exam(cut, False, _sha256(cut))]


def _exam(path: Path, sheets: Iterator[bytes], suffix: str) -> Exam:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, sheet in enumerate(sheets, 1):
            archive.writestr(f"sheet-{number:05}.{suffix}", sheet)
    return Exam(path, True, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Scanner(threading.Thread):
    """Saves one exam after the other into the drop folder."""

    def __init__(self, exams: list[Exam], drop: Path) -> None:
        super().__init__(name="scanner", daemon=True)
        self._exams = exams
        self._drop = drop
        self._off = threading.Event()

    def switch_off(self) -> None:
        self._off.set()
        self.join()

    def run(self) -> None:
        for exam in self._exams:
            self._save(exam)

    def _save(self, exam: Exam) -> None:
        size = exam.path.stat().st_size
        step = size // WRITE_STEPS + 1
        with exam.path.open("rb") as source, (self._drop / exam.name).open("wb") as target:
            while (block := source.read(step)) and not self._off.wait(WRITE_SECONDS / WRITE_STEPS):
                target.write(block)
                target.flush()
