"""The end of a ZIP: where its central directory lies (APPNOTE.TXT 4.3.14 to 4.3.16)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omrwatchd.sheets.records import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DIGITAL_SIGNATURE,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    FULL16,
    FULL32,
    LOCAL_SIGNATURE,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    NO_END,
    BadZip,
)

# Far above any real exam (11,404 sheets have a directory of 2 MB), and still a bounded cost: the most that
# passes takes two seconds and 200 MB.
MAX_ENTRIES = 250_000
MAX_DIRECTORY = 48 * 1024 * 1024

# Reads up to ``length`` bytes at ``offset``; fewer only at the end of the file.
Read = Callable[[int, int], bytes]

_ONE_FILE = "Save the scans as one ZIP file that is not split into volumes."


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory lies.

    Args:
        offset: in bytes from the start of the file.
        length: in bytes.
        count: how many records it promises to hold.
        shift: what its offsets lack to be offsets in the file: the length of a stub before the ZIP.
        comment: the archive comment.
    """

    offset: int
    length: int
    count: int
    shift: int
    comment: bytes


def find_directory(read: Read, size: int) -> Directory:
    """Find the central directory of a file of ``size`` bytes, from its end.

    Bytes behind the end record are passed over, as unzip does; a comment that is cut off is not.

    Raises:
        BadZip: there is no end record, or it does not fit the file.
    """
    start = max(0, size - END.size - FULL16)
    tail = read(start, size - start)
    last = at = tail.rfind(END_SIGNATURE)
    problem = BadZip(NO_END)
    while at >= 0:
        try:
            return _read_end(read, tail, start, at, last)
        except BadZip as reason:
            problem = reason if at == last else problem
        at = tail.rfind(END_SIGNATURE, 0, at + 3)
    raise problem


def _read_end(read: Read, tail: bytes, tail_start: int, at: int, last: int) -> Directory:
    if at + END.size > len(tail):
        raise BadZip(NO_END)
    _, disk, _, _, count, length, offset, comment_length = END.unpack_from(tail, at)
    behind = at + END.size + comment_length
    # What looks like a later end record must be part of this one's comment: in two ZIPs copied into one
    # file, whole or not, the first is not all there is.
    if behind > len(tail) or behind < last + len(END_SIGNATURE) or tail.startswith(LOCAL_SIGNATURE, behind):
        raise BadZip(NO_END)
    comment = tail[at + END.size : behind]
    stop = tail_start + at
    wide = _find_end64(read, stop)
    if wide is not None:
        stop, (disk, _, _, count, length, offset) = wide
    if disk:  # the last volume has the highest number; unzip asks for nothing else either
        raise BadZip("it is one volume of a ZIP that is split over several files", _ONE_FILE)
    _check_bounds(count, length, stop)
    return _place(read, stop, Directory(offset, length, count, 0, comment))


def _find_end64(read: Read, stop: int) -> tuple[int, tuple[int, ...]] | None:
    """The ZIP64 end record, if a locator stands before the end record: its offset and its six numbers."""
    if stop < LOCATOR64.size + END64.size:
        return None
    at = stop - LOCATOR64.size
    signature, _, offset, disks = LOCATOR64.unpack(read(at, LOCATOR64.size).ljust(LOCATOR64.size, b"\0"))
    if signature != LOCATOR64_SIGNATURE:
        return None
    if disks > 1:
        raise BadZip("it is one volume of a ZIP that is split over several files", _ONE_FILE)
    # Where the locator says, or, behind a stub, right before the locator.
    for where in (offset, at - END64.size):
        record = read(where, END64.size) if where + END64.size <= at else b""
        if record[:4] == END64_SIGNATURE:
            return where, END64.unpack(record)[4:]
    raise BadZip(NO_END)


def _check_bounds(count: int, length: int, stop: int) -> None:
    if length > stop:
        raise BadZip("its beginning is missing")
    if count > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise BadZip(f"its table of contents is impossibly large ({count:,} entries, {length:,} bytes)")
    if count * CENTRAL.size > length:
        raise BadZip("its table of contents is shorter than it says")


def _place(read: Read, stop: int, said: Directory) -> Directory:
    """Settle where the directory begins: right before its end record, else at the offset it names."""
    for offset, shift in _candidates(stop, said):
        if offset + said.length > stop or shift < 0:
            continue
        signature = read(offset, 4)
        if said.count == 0 and (said.length == 0 or signature == DIGITAL_SIGNATURE):
            break
        if said.count and signature == CENTRAL_SIGNATURE:
            break
    else:
        raise BadZip("its table of contents is not where it should be")
    if shift and read(0, 4) == LOCAL_SIGNATURE:
        _refuse_double(shift)
    return Directory(offset, said.length, said.count, shift, said.comment)


def _candidates(stop: int, said: Directory) -> Iterator[tuple[int, int]]:
    yield stop - said.length, stop - said.length - said.offset
    yield said.offset, 0


def _refuse_double(shift: int) -> None:
    """The file begins as a ZIP, but its directory belongs to a ZIP that begins later."""
    if shift % (FULL32 + 1) == 0:
        # What macOS' Archive Utility writes beyond 4 GiB: offsets without their upper half.
        raise BadZip(
            "it is larger than 4 GiB, and the program that saved it cannot write such files",
            "Save the scans as several smaller ZIP files, or zip them with another program.",
        )
    # Cut off behind a ZIP inside the ZIP, or two ZIPs copied into one: sheets would be lost silently.
    raise BadZip(NO_END)
