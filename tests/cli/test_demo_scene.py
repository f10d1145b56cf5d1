from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

from omrwatchd.cli.demo.scene import make_exams
from omrwatchd.cli.demo.sheets import HEIGHT, WIDTH, jpeg_sheets
from omrwatchd.settings import PROXY_LIMIT


def test_sheets_are_different_pictures_and_the_same_for_a_seed() -> None:
    """Each sheet is a valid A4 picture with marks of its own; a seed names a set."""
    sheets = list(jpeg_sheets(3, "Math", 1))
    assert len(set(sheets)) == 3
    for sheet in sheets:
        image = Image.open(io.BytesIO(sheet))
        image.load()
        assert image.size == (WIDTH, HEIGHT)
        assert sum(image.histogram()[:60]) > 5_000  # filled bubbles and registration marks


def test_exams_are_what_the_demo_promises(tmp_path: Path) -> None:
    """Good ZIPs pass zipfile's test, one is above what fits one request, the bad one is no ZIP."""
    exams = make_exams(tmp_path / "exams")
    for exam in exams:
        assert zipfile.is_zipfile(exam.path) is exam.good
        if exam.good:
            with zipfile.ZipFile(exam.path) as archive:
                assert archive.testzip() is None
    assert max(exam.path.stat().st_size for exam in exams) > PROXY_LIMIT
    assert [exam.good for exam in exams].count(False) == 1
