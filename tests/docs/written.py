"""What the documents have for people to type or to copy, taken out of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "OPERATIONS.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^(?: {4,7})(\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_PROGRAM = re.compile(
    r"(sudo|make|omrwatchd|python3?|pip|\.venv/bin/\w+|systemctl|systemd-\w+|journalctl|nsenter|promtool|sqlite3"
    r"|jq|echo|cat|cd|cp|curl|chmod|mv|logrotate|mount|findmnt|apt-get|groupadd|usermod|install)\b"
)


def blocks(document: Path, kind: str) -> list[str]:
    """The fenced blocks of a kind, e.g. ``sh``."""
    return [
        text for language, text in _BLOCK.findall(document.read_text(encoding="utf-8")) if language == kind
    ]


def block(kind: str, words: str, document: Path = OPERATIONS) -> str:
    """The one block of a kind that has these words in it."""
    [found] = [text for text in blocks(document, kind) if words in text]
    return found


def section(document: Path, heading: str) -> str:
    """The text below a heading (with its #) as far as the next one of its rank."""
    rank = heading.partition(" ")[0]
    text = document.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    assert text, heading
    return text.partition(f"\n{rank} ")[0]


def lines_for_a_shell(document: Path) -> Iterator[str]:
    """Each line of the sh blocks, with its continuations, without its comment; no script's inside."""
    for text in blocks(document, "sh"):
        if not text.startswith("#!"):
            for line in re.sub(r"\\\n\s*", "", text).splitlines():
                if not line.startswith("#") and (command := line.partition(" # ")[0].strip()):
                    yield command


def spans(text: str) -> Iterator[str]:
    """Each command that stands between backticks in running text; a program's bare name is none."""
    for words in _SPAN.findall(_BLOCK.sub("", text)):
        if _PROGRAM.match(words) and " " in words:
            yield words


def indented(text: str) -> Iterator[str]:
    """Each command in an indented block, but the list of our own and the map of the house."""
    for line in _INDENTED.findall(_BLOCK.sub("", text)):
        if _PROGRAM.match(line) and not line.startswith("omrwatchd"):
            yield line
