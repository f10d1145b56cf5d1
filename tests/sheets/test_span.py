"""Where an entry ends, whatever kind of data descriptor follows it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omrwatchd.sheets.records import BadZip, Central
from omrwatchd.sheets.span import find_ends

DATA = b"twelve bytes"


def file_with(descriptor: bytes, crc: int, size: int, gap: bytes = b"") -> tuple[bytes, list[Central]]:
    """Two entries, each with the descriptor behind it and a gap behind that, and their records."""
    data, records = b"", []
    for name in (b"a.jpg", b"b.jpg"):
        header = (
            struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 8, 8, 0, 0, 0, 0, 0, len(name), 3) + name + b"???"
        )
        records.append(Central(name, 8, 8, crc, len(DATA), size, len(data), b""))
        data += header + DATA + descriptor + gap
    return data, records


def ends_of(data: bytes, records: list[Central]) -> list[int]:
    return find_ends(lambda offset, length: data[offset : offset + length], records, len(data))


numbers = st.integers(0, 2**32 - 1) | st.sampled_from([0, 12, 0x08074B50, 0x04034B50])


@settings(deadline=None)
@given(numbers, numbers, st.sampled_from([b"", b"PK\x07\x08"]), st.sampled_from(["<3I", "<IQQ"]))
def test_every_kind_of_descriptor_is_measured(crc: int, size: int, signature: bytes, sizes: str) -> None:
    """With a signature or without, 32 or 64 bits wide: an entry ends where the next begins."""
    data, records = file_with(signature + struct.pack(sizes, crc, len(DATA), size), crc, size)
    assert ends_of(data, records) == [len(data) // 2, len(data)]


@pytest.mark.parametrize("signature", [b"", b"PK\x07\x08"])
@pytest.mark.parametrize("sizes", ["<3I", "<IQQ"])
def test_a_gap_is_no_descriptor(signature: bytes, sizes: str) -> None:
    """Bytes between two entries belong to neither."""
    data, records = file_with(signature + struct.pack(sizes, 77, len(DATA), 99), 77, 99, gap=b"?" * 50)
    assert ends_of(data, records) == [len(data) // 2 - 50, len(data) - 50]


@pytest.mark.parametrize(("descriptor", "taken"), [(b"", 0), (b"?" * 16, 16), (b"?" * 50, 0)])
def test_a_descriptor_that_disagrees_is_tolerated(descriptor: bytes, taken: int) -> None:
    """A writer that leaves the descriptor out or fills it otherwise does not make the ZIP bad."""
    data, records = file_with(descriptor, 77, 99)
    stop = len(data) // 2 - len(descriptor) + taken
    assert ends_of(data, records) == [stop, stop + len(data) // 2]


def test_the_order_of_the_directory_does_not_matter() -> None:
    """Ends come back in the directory's order, wherever the entries stand."""
    data, records = file_with(b"", 77, 99)
    assert ends_of(data, records[::-1]) == [len(data), len(data) // 2]


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_two_records_for_the_same_bytes_are_refused(step: int) -> None:
    """Records that point into each other's data overlap."""
    data, records = file_with(b"", 77, 99)
    twin = records[0]._replace(offset=max(0, records[0].offset + step))
    with pytest.raises(BadZip, match="overlaps"):
        ends_of(data, [*records, twin])
