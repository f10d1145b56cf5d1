"""A folder of pictures while somebody works in it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from omrwatchd.sheets.pictures import list_pictures


def test_picture_that_vanishes_meanwhile_is_not_there(tmp_path: Path) -> None:
    """A scanner's temporary file comes and goes: the folder is not gone for that, nor are its pictures."""
    for number in range(20):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"picture")
    over = threading.Event()
    comings = 0

    def flicker() -> None:
        nonlocal comings
        while not over.is_set():
            for number in range(20):
                (tmp_path / f"new-{number}.jpg").touch()
            for number in range(20):
                os.unlink(tmp_path / f"new-{number}.jpg")
            comings += 1

    scanner = threading.Thread(target=flicker)
    scanner.start()
    try:
        while comings < 300:
            listed = [picture.name for picture in list_pictures(os.fsencode(tmp_path)).entries]
            assert [name for name in listed if not name.startswith(b"new")] == [
                b"%02d.jpg" % number for number in range(20)
            ]
    finally:
        over.set()
        scanner.join()
