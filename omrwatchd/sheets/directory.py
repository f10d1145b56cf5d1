"""Writing a central directory for entries that moved (APPNOTE.TXT 4.3.12 to 4.3.16). Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from omrwatchd.sheets.records import (
    CENTRAL,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    FULL16,
    FULL32,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    ZIP64_FIELD,
    extra_fields,
)

_HEAD = Struct("<HH")
_OFFSET = Struct("<I")
_OFFSET_AT = CENTRAL.size - _OFFSET.size
_ZIP64_VERSION = 45  # 4.4.3.2


def write_directory(moved: Iterable[tuple[bytes, int]], start: int, comment: bytes) -> bytes:
    """The central directory and the end of a ZIP; ZIP64 records only where the numbers need them.

    Args:
        moved: raw central directory records, each with its new offset.
        start: where the directory will begin.
        comment: the archive comment.
    """
    records = [move_record(record, offset) for record, offset in moved]
    directory = b"".join(records)
    return directory + _write_end(len(records), len(directory), start, comment)


def move_record(record: bytes, offset: int) -> bytes:
    """The record with another local header offset; all else stays as it was.

    The ZIP64 field (4.5.3) holds a value only for what does not fit its own field: the offset enters or
    leaves it as needed, and a field that holds nothing any more goes.
    """
    fields = CENTRAL.unpack_from(record)
    size, compressed, disk, old = fields[9], fields[8], fields[13], fields[16]
    narrow = min(offset, FULL32)
    head = record[:_OFFSET_AT] + _OFFSET.pack(narrow)
    if narrow != FULL32 and old != FULL32:
        return head + record[CENTRAL.size :]
    name_stop = CENTRAL.size + fields[10]
    extra_stop = name_stop + fields[11]
    before = 8 * ((size == FULL32) + (compressed == FULL32))
    extra = _move_extra(record[name_stop:extra_stop], before, old == FULL32, offset, disk == FULL16)
    head = head[:30] + len(extra).to_bytes(2, "little") + head[32:]
    return head + record[CENTRAL.size : name_stop] + extra + record[extra_stop:]


def _move_extra(extra: bytes, before: int, has_offset: bool, offset: int, has_disk: bool) -> bytes:
    """The extra fields with the ZIP64 offset put in, changed or taken out.

    Args:
        extra: all extra fields.
        before: bytes of the ZIP64 field that stand before its offset.
        has_offset: whether the ZIP64 field holds an offset.
        offset: the new offset.
        has_disk: whether the ZIP64 field ends with a disk number.
    """
    start, stop = next(
        ((start, stop) for kind, start, stop in extra_fields(extra) if kind == ZIP64_FIELD), (0, 0)
    )
    old = extra[start + _HEAD.size : stop]
    behind = old[before + 8 * has_offset :][: 4 * has_disk]
    wide = offset.to_bytes(8, "little") if offset >= FULL32 else b""
    new = old[:before] + wide + behind
    field = _HEAD.pack(ZIP64_FIELD, len(new)) + new if new else b""
    return extra[:start] + field + extra[stop:]


def _write_end(count: int, length: int, start: int, comment: bytes) -> bytes:
    end = END.pack(
        END_SIGNATURE,
        0,
        0,
        min(count, FULL16),
        min(count, FULL16),
        min(length, FULL32),
        min(start, FULL32),
        len(comment),
    )
    if count < FULL16 and length < FULL32 and start < FULL32:
        return end + comment
    end64 = END64.pack(
        END64_SIGNATURE,
        END64.size - 12,  # 4.3.14.1: what follows this field
        _ZIP64_VERSION,
        _ZIP64_VERSION,
        0,
        0,
        count,
        count,
        length,
        start,
    )
    locator = LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, start + length, 1)
    return end64 + locator + end + comment
