"""Reading a ZIP's table of contents, and saying in a plain sentence when it is no whole ZIP with sheets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from struct import Struct

from omrwatchd.errors import Problem
from omrwatchd.sheets.ending import find_directory
from omrwatchd.sheets.entry import Archive, Entry
from omrwatchd.sheets.records import BadZip, Central, read_centrals, shown
from omrwatchd.sheets.span import find_ends

__all__ = ["Archive", "Entry", "check_sheets", "read_archive"]

_FINGERPRINTED = Struct("<IQI")  # length of the name, unpacked size, CRC


def read_archive(fd: int, name: str) -> Archive:
    """Read the table of contents and check that the ZIP is whole.

    Whole means: the end of the central directory is there, every local header stands where the directory
    says, no two entries overlap, and all data lies before the directory. The data itself is not read.
    Bytes before the ZIP (a self-extracting stub), ZIP64, data descriptors and comments are fine.

    Args:
        fd: an open regular file; read with ``pread``, so its position does not move.
        name: what to call the file in a sentence.

    Raises:
        Problem: ``not_a_zip``.
        OSError: the file can't be read.
    """

    def read(offset: int, length: int) -> bytes:
        return _read(fd, offset, length)

    size = os.fstat(fd).st_size
    try:
        place = find_directory(read, size)
        directory = read(place.offset, place.length)
        records = read_centrals(directory, place.count, place.shift)
        ends = find_ends(read, records, place.offset)
    except BadZip as bad:
        raise Problem("not_a_zip", f"{name} is not a complete ZIP file: {bad.reason}.", bad.advice) from bad
    entries = tuple(
        Entry(
            found.name,
            found.flags,
            found.method,
            found.crc,
            found.compressed,
            found.size,
            found.offset,
            end,
            found.record,
        )
        for found, end in zip(records, ends, strict=True)
    )
    return Archive(size, entries, place.comment, place.offset, _fingerprint(records))


def check_sheets(archive: Archive, name: str) -> None:
    """Refuse what the server could make nothing of.

    Raises:
        Problem: ``encrypted_zip`` or ``no_sheets``.
    """
    locked = next((entry for entry in archive.entries if entry.encrypted), None)
    if locked is not None:
        raise Problem(
            "encrypted_zip",
            f"{name} is protected with a password ({shown(locked.name)} is encrypted).",
            "Switch the password off in the scanning program and save the ZIP again.",
        )
    if archive.sheets == 0:
        what = "is empty" if not archive.entries else "holds no sheet images"
        raise Problem(
            "no_sheets",
            f"{name} {what}.",
            "Put the scans into the ZIP as JPG, PNG, TIFF, BMP, WebP, GIF or PDF files, and save it again.",
        )


def _read(fd: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes; fewer at the end of the file. ``pread`` may stop early on a network share."""
    block = os.pread(fd, length, offset)
    if len(block) == length or not block:
        return block
    blocks = [block]
    have = len(block)
    while have < length and (block := os.pread(fd, length - have, offset + have)):
        blocks.append(block)
        have += len(block)
    return b"".join(blocks)


def _fingerprint(records: Iterable[Central]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(_FINGERPRINTED.pack(len(record.name), record.size, record.crc))
        digest.update(record.name)
    return digest.hexdigest()
