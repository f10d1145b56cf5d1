"""The README's picture is one that can be shown anywhere, and it still shows what the demo does."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from omrwatchd.cli.demo import scene
from tests.docs.demo_picture import PICTURE
from tests.docs.written import README


def test_picture_is_small_and_asks_nobody_for_anything() -> None:
    """Well-formed, under 60 kB, no font from a network, and with no name that the demo has not."""
    assert f"](docs/{PICTURE.name})" in README.read_text(encoding="utf-8")
    text = PICTURE.read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert "@font-face" not in text
    assert "href" not in text
    assert "url(http" not in text
    shown = "".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")
    names = re.findall(r"(\S+)\.zip", shown)
    played = Path(scene.__file__).read_text(encoding="utf-8")
    assert len(names) >= 4
    assert all(f"{name}.zip" in played for name in names)
