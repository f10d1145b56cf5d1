"""docs/demo.svg: one frame of a real `omrwatchd demo` in a real terminal, as it was drawn.

    .venv/bin/python -m tests.docs.demo_picture

takes half a minute. Colours, bars and figures are those of that run; the letters' shapes are the reader's.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from rich.console import Console
from rich.text import Text

from tests.docs.written import ROOT

PICTURE = ROOT / "docs" / "demo.svg"
COLUMNS, LINES = 84, 30
WANTED_PERCENT = 70
_ERASED = re.compile(r"(?:\r|\x1b\[1A|\x1b\[2K)+\x1b\[2K")
"""What rich's live display does before it draws the next frame."""


def drawn() -> str:
    """All that the demo has written to a terminal; it must succeed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    demo = subprocess.Popen(
        [sys.executable, "-m", "omrwatchd", "demo"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 65536):
            seen += block
    except OSError:  # the terminal's other end is closed: the demo has ended
        pass
    os.close(ours)
    assert demo.wait(30) == 0, seen[-2000:].decode("utf-8", "replace")
    return seen.decode("utf-8", "replace")


def frame(text: str) -> Text:
    """The one in which the large file is nearest to the wanted percent while another one still grows."""
    frames = [Text.from_ansi(part.replace("\r", "").strip("\n")) for part in _ERASED.split(text)]

    def distance(picture: Text) -> float:
        found = re.search(r"uploading at (?:.*\n)+.*final-exam.*?(\d+)%(?:.*\n)+.*growing", picture.plain)
        return abs(int(found[1]) - WANTED_PERCENT) if found else 100.0

    return min(frames, key=distance)


def main() -> None:
    picture = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    picture.print(Text("$ make demo\n"), frame(drawn()), sep="\n")
    svg = picture.export_svg(title="make demo", unique_id="demo")
    # no letters from elsewhere: a picture that asks the network for a font is no picture
    PICTURE.write_text(re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
