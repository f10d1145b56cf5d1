"""The Content-Disposition of a form part, as browsers write it.

WHATWG's "multipart/form-data encoding algorithm" puts names into plain double quotes as UTF-8 and
escapes three characters only: LF as ``%0A``, CR as ``%0D``, ``"`` as ``%22``. A backslash is itself, a
percent sign too, and RFC 5987's ``filename*`` does not occur.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPES = {"\n": "%0A", "\r": "%0D", '"': "%22"}
_PARAMETER = re.compile(rb';[ \t]*([A-Za-z]+)="([^"]*)"[ \t]*')


@dataclass(frozen=True)
class Disposition:
    """A part's field name, and its file name still as it stood on the wire."""

    name: str
    wire_filename: str | None

    @property
    def filename(self) -> str | None:
        """The file name as its owner reads it."""
        return None if self.wire_filename is None else unescape(self.wire_filename)


def parse(raw: bytes) -> Disposition:
    """Read the header's value.

    Raises:
        ValueError: it is not what a browser would send.
    """
    kind, semicolon, rest = raw.partition(b";")
    if kind.strip().lower() != b"form-data":
        raise ValueError("a part's Content-Disposition is not form-data")
    rest = semicolon + rest
    found: dict[str, str] = {}
    while rest:
        match = _PARAMETER.match(rest)
        if match is None:
            raise ValueError('a part\'s Content-Disposition is malformed (names go in "…", quotes as %22)')
        key = match[1].decode("ascii").lower()
        if key not in ("name", "filename") or key in found:
            raise ValueError(f"a part's Content-Disposition has an unknown or repeated parameter {key!r}")
        found[key] = _text(match[2])
        rest = rest[match.end() :]
    if "name" not in found:
        raise ValueError("a part's Content-Disposition has no name")
    return Disposition(unescape(found["name"]), found.get("filename"))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a part's Content-Disposition is not UTF-8") from None


def escape(name: str) -> str:
    """The name as a browser puts it on the wire."""
    return "".join(_ESCAPES.get(character, character) for character in name)


def unescape(wire: str) -> str:
    """The name behind its wire form; a name that itself holds ``%22`` is not told apart (nor can it be)."""
    for character, escaped in _ESCAPES.items():
        wire = wire.replace(escaped, character)
    return wire


def same_name(wire: str, name: str) -> bool:
    """Whether a part's file name is this name.

    Compared in wire form, where nothing is ambiguous. Line ends count alike: a browser rewrites them to
    CRLF in a text field, but not in a file name.
    """
    return _one_newline(wire) == _one_newline(escape(name))


def _one_newline(wire: str) -> str:
    return wire.replace("%0D%0A", "%0A").replace("%0D", "%0A")
