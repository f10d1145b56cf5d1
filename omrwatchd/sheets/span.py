"""The span of an entry: from its local header to just behind its data, checked against the directory."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from omrwatchd.sheets.ending import Read
from omrwatchd.sheets.records import (
    DESCRIPTOR_SIGNATURE,
    FULL32,
    LOCAL,
    LOCAL_SIGNATURE,
    BadZip,
    Central,
    shown,
)

_HAS_DESCRIPTOR = 0x0008  # APPNOTE.TXT 4.4.4
_MASKED = 0x2000  # 4.4.4 bit 13: the local header hides its name

_NARROW = Struct("<3I")  # 4.3.9: CRC, compressed, size
_WIDE = Struct("<IQQ")  # 4.3.9.2


def find_ends(read: Read, records: Sequence[Central], limit: int) -> list[int]:
    """Where each entry ends, in bytes from the start of the file, in the order of ``records``.

    Args:
        read: the file.
        records: the central directory.
        limit: where the central directory begins: all data lies before it.

    Raises:
        BadZip: a local header is not where the directory says, or entries overlap.
    """
    order = sorted(range(len(records)), key=lambda index: records[index].offset)
    bounds = [records[index].offset for index in order[1:]] + [limit]
    ends = [0] * len(records)
    for index, bound in zip(order, bounds, strict=False):
        ends[index] = _find_end(read, records[index], bound)
    return ends


def _find_end(read: Read, record: Central, bound: int) -> int:
    need = LOCAL.size + len(record.name)
    if record.offset + need > bound:
        raise _overlap(record)
    header = read(record.offset, need)
    if len(header) != need or header[:4] != LOCAL_SIGNATURE:
        raise BadZip(f"the data of {shown(record.name)} is missing (a hole in the file)")
    _, _, flags, _, _, _, _, _, _, name, extra = LOCAL.unpack_from(header)
    if not (record.flags | flags) & _MASKED and (
        name != len(record.name) or header[LOCAL.size :] != record.name
    ):
        raise BadZip(f"something else stands where {shown(record.name)} should be")
    end: int = record.offset + LOCAL.size + name + extra + record.compressed
    if end > bound:
        raise _overlap(record)
    if (record.flags | flags) & _HAS_DESCRIPTOR:
        end += _descriptor_length(read(end, min(24, bound - end)), record, bound - end)
    return end


def _descriptor_length(behind: bytes, record: Central, room: int) -> int:
    """How many of the bytes behind the data are its data descriptor.

    The signature is optional and the sizes are 32 or 64 bits wide, with no mark to tell which (4.3.9):
    the one that repeats the directory's numbers is it, best if it ends where the next entry begins.
    """
    wide = _WIDE.pack(record.crc, record.compressed, record.size)
    narrow = _NARROW.pack(record.crc, record.compressed & FULL32, record.size & FULL32)
    fits = [
        len(descriptor)
        for descriptor in (DESCRIPTOR_SIGNATURE + wide, DESCRIPTOR_SIGNATURE + narrow, wide, narrow)
        if behind.startswith(descriptor)
    ]
    if room in fits:
        return room
    if fits:
        return fits[0]
    if record.crc and len(behind) >= 12 and not any(behind[:12]):
        raise BadZip(f"the data of {shown(record.name)} is missing (a hole in the file)")
    # A writer that sets the flag and leaves the descriptor out, or writes other numbers into it: unzip
    # does not mind. What fills the gap to the next entry exactly goes along.
    return room if room in (12, 16, 20, 24) else 0


def _overlap(record: Central) -> BadZip:
    return BadZip(
        f"the data of {shown(record.name)} overlaps what follows it", "Save the scans as a new ZIP file."
    )
