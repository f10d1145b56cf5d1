"""The records that a ZIP is made of, from bytes to values (PKWARE APPNOTE.TXT 6.3.10, section 4.3).

Pure: no I/O. Whatever is wrong is a ``BadZip`` with a reason that fits behind "NAME is not a complete ZIP
file: ".
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

LOCAL = Struct("<4s5H3I2H")  # 4.3.7
CENTRAL = Struct("<4s6H3I5H2I")  # 4.3.12
END = Struct("<4s4H2IH")  # 4.3.16
END64 = Struct("<4sQ2H2I4Q")  # 4.3.14
LOCATOR64 = Struct("<4sIQI")  # 4.3.15

LOCAL_SIGNATURE = b"PK\x03\x04"
CENTRAL_SIGNATURE = b"PK\x01\x02"
DIGITAL_SIGNATURE = b"PK\x05\x05"  # 4.3.13
END_SIGNATURE = b"PK\x05\x06"
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR64_SIGNATURE = b"PK\x06\x07"
DESCRIPTOR_SIGNATURE = b"PK\x07\x08"  # 4.3.9.3

# 4.4.1.4: a field that holds this much says 'look in the ZIP64 record'.
FULL16 = 0xFFFF
FULL32 = 0xFFFFFFFF
ZIP64_FIELD = 1  # 4.5.3

# Real records have up to five; 16,000 empty ones in each record would keep a reader busy for half a minute.
MAX_FIELDS = 16

NO_END = "its end is missing (the table of contents was not found)"
SAVE_AGAIN = "Save or copy the file again."


class BadZip(Exception):
    """Why the bytes are no whole ZIP.

    Args:
        reason: the second half of a sentence, without a full stop.
        advice: what to do about it.
    """

    def __init__(self, reason: str, advice: str = SAVE_AGAIN) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


class Central(NamedTuple):
    """One central directory record; ``offset`` is absolute, ZIP64 values are resolved."""

    name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    record: bytes


def shown(name: bytes) -> str:
    """An entry's name for a sentence: one line, printable, not too long."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:300])
    return text if len(text) <= 80 else f"{text[:38]}…{text[-38:]}"


def read_centrals(directory: bytes, count: int, shift: int) -> list[Central]:
    """Read ``count`` records, which must fill the directory exactly.

    Args:
        directory: the bytes of the central directory.
        count: how many records the end record promises.
        shift: what is to be added to each offset: bytes standing before the ZIP proper.

    Raises:
        BadZip: a record is cut, missing or too many.
    """
    records = []
    at = 0
    for _ in range(count):
        record, at = _read_central(directory, at, shift)
        records.append(record)
    if at != len(directory) and directory[at : at + 4] != DIGITAL_SIGNATURE:
        raise BadZip("its table of contents holds more than it says")
    return records


def _read_central(directory: bytes, at: int, shift: int) -> tuple[Central, int]:
    if at + CENTRAL.size > len(directory):
        raise BadZip("its table of contents is cut off")
    fields = CENTRAL.unpack_from(directory, at)
    signature, _, _, flags, method, _, _, crc, compressed, size, name, extra, comment, _, _, _, offset = (
        fields
    )
    if signature != CENTRAL_SIGNATURE:
        raise BadZip("its table of contents is damaged")
    start = at + CENTRAL.size
    stop = start + name + extra + comment
    if stop > len(directory):
        raise BadZip("its table of contents is cut off")
    if FULL32 in (size, compressed, offset):
        field = directory[start + name : start + name + extra]
        size, compressed, offset = _widen(field, size, compressed, offset)
    raw = directory[at:stop]
    central = Central(
        directory[start : start + name], flags, method, crc, compressed, size, offset + shift, raw
    )
    return central, stop


def extra_fields(extra: bytes) -> Iterator[tuple[int, int, int]]:
    """The (id, start, stop) of each extra field (4.5.1), its 4-byte head included in the range.

    Stops at the first that does not fit: unzip passes over such leftovers, so do we. Stops behind MAX_FIELDS.
    """
    at = 0
    for _ in range(MAX_FIELDS):
        if at + 4 > len(extra):
            return
        field = int.from_bytes(extra[at : at + 2], "little")
        stop = at + 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
        if stop > len(extra):
            return
        yield field, at, stop
        at = stop


def _widen(extra: bytes, *values: int) -> list[int]:
    """Put in the 64-bit value for each that is full, in the order of 4.5.3: size, compressed, offset."""
    field = b""
    for kind, start, stop in extra_fields(extra):
        if kind == ZIP64_FIELD:
            field = extra[start + 4 : stop]
            break
    wide = []
    for value in values:
        if value == FULL32 and len(field) >= 8:
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        wide.append(value)
    return wide
