"""A form read as it arrives: fields in any order, files straight to disk."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from . import disposition
from .answers import Refusal

BLOCK = 1024 * 1024
"""Bytes held back before they go to disk in one write."""

TEXT_LIMIT = 64 * 1024
"""Bytes of one text field: notes are the longest, and nobody types more."""

_HEADER_LIMIT = 16 * 1024


@dataclass(frozen=True)
class FormShape:
    """The names a form may have."""

    text: frozenset[str]
    files: frozenset[str]
    repeated: frozenset[str] = frozenset()


@dataclass
class FilePart:
    """A file of the form; ``path`` exists once something of it was flushed."""

    field: str
    wire_filename: str
    path: Path
    size: int = 0

    @property
    def filename(self) -> str:
        """The file name as its owner reads it."""
        return disposition.unescape(self.wire_filename)


@dataclass
class Form:
    """What was sent: text fields by name, files in their order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FilePart] = field(default_factory=list)


class FormReader:
    """Takes the body block by block; ``feed`` never touches the disk, ``flush`` and ``finish`` do.

    Args:
        folder: where file parts are put, under names of our own.

    Raises:
        Refusal: from the constructor, ``feed`` or ``finish``, as soon as the form is known to be wrong.
    """

    def __init__(self, content_type: str, shape: FormShape, folder: Path) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refusal(415, "the body must be multipart/form-data with a boundary")
        self.form = Form()
        self.pending = 0
        self._shape = shape
        self._folder = folder
        self._blocks: list[tuple[FilePart, bytes]] = []
        self._header = (bytearray(), bytearray())
        self._disposition: bytes | None = None
        self._write: Callable[[bytes], None] = lambda _block: None
        self._text: tuple[str, bytearray] | None = None
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._write(data[start:end]),
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_size=_HEADER_LIMIT,
            )
        except FormParserError as wrong:
            raise Refusal(400, f"the form is malformed: {wrong}") from wrong

    def feed(self, block: bytes) -> None:
        """Parse the next block of the body."""
        try:
            self._parser.write(block)
        except FormParserError as wrong:
            raise Refusal(400, f"the form is malformed: {wrong}") from wrong

    def flush(self) -> None:
        """Write what is held back. Blocks."""
        blocks, self._blocks, self.pending = self._blocks, [], 0
        while blocks:
            part = blocks[0][0]
            with open(part.path, "ab", buffering=0) as out:
                while blocks and blocks[0][0] is part:
                    rest = memoryview(blocks.pop(0)[1])
                    while rest:
                        rest = rest[out.write(rest) :]

    def finish(self) -> Form:
        """The whole form, once the body is over. Blocks."""
        if not self._ended:
            raise Refusal(400, "the form is cut short: its closing boundary is missing")
        self.flush()
        return self.form

    def discard(self) -> None:
        """Remove the files that nobody took."""
        for part in self.form.files:
            part.path.unlink(missing_ok=True)

    def _on_part_begin(self) -> None:
        self._disposition = None

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        if self._disposition is None:
            raise Refusal(400, "a part has no Content-Disposition")
        try:
            head = disposition.parse(self._disposition)
        except ValueError as wrong:
            raise Refusal(400, str(wrong)) from wrong
        if head.name in self._shape.files:
            self._begin_file(head)
        elif head.name in self._shape.text:
            self._begin_text(head)
        else:
            raise Refusal(400, f"unknown field {head.name!r}")

    def _begin_file(self, head: disposition.Disposition) -> None:
        if not head.wire_filename:
            raise Refusal(400, f"field {head.name!r} must be a file with a file name")
        if head.name not in self._shape.repeated and any(p.field == head.name for p in self.form.files):
            raise Refusal(400, f"duplicate field {head.name!r}")
        part = FilePart(head.name, head.wire_filename, self._folder / secrets.token_hex(16))
        self.form.files.append(part)

        def write(block: bytes) -> None:
            self._blocks.append((part, block))
            self.pending += len(block)
            part.size += len(block)

        self._write = write

    def _begin_text(self, head: disposition.Disposition) -> None:
        if head.wire_filename is not None:
            raise Refusal(400, f"field {head.name!r} must be text, not a file")
        if head.name in self.form.fields:
            raise Refusal(400, f"duplicate field {head.name!r}")
        held = bytearray()

        def write(block: bytes) -> None:
            held.extend(block)
            if len(held) > TEXT_LIMIT:
                raise Refusal(400, f"field {head.name!r} is too long")

        self._write = write
        self._text = (head.name, held)

    def _on_part_end(self) -> None:
        if self._text is None:
            return
        (name, held), self._text = self._text, None
        if not held:
            raise Refusal(400, f"field {name!r} is empty: a field without a value is left out")
        try:
            self.form.fields[name] = held.decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal(400, f"field {name!r} is not UTF-8") from None

    def _on_end(self) -> None:
        self._ended = True
