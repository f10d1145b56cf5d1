from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.delivery.chunks import halved, plan

sizes = st.integers(1, 10**13)


@given(size=sizes, chunk_size=st.integers(1024, 10**9).filter(bool))
def test_chunks_cover_the_part_once_in_order(size: int, chunk_size: int) -> None:
    """The chunks are the part: no gap, no overlap, all but the last of full size, one final."""
    size = size % (chunk_size * 500) or 1
    chunks = plan(size, chunk_size)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.total for chunk in chunks} == {len(chunks)}
    ends = [0, *(chunk.offset + chunk.length for chunk in chunks)]
    assert [chunk.offset for chunk in chunks] == ends[:-1]
    assert ends[-1] == size
    assert {chunk.length for chunk in chunks[:-1]} <= {chunk_size}
    assert [chunk.is_final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


@given(size=sizes, chunk_size=st.integers(1024, 10**9), edge=st.integers(1, 10**9))
def test_small_edges_leave_no_gap_either(size: int, chunk_size: int, edge: int) -> None:
    """With a size of their own for the first and the last chunk the part is still covered, once, in order."""
    size = size % (chunk_size * 500) or 1
    chunks = plan(size, chunk_size, edge)
    ends = [0, *(chunk.offset + chunk.length for chunk in chunks)]
    assert [chunk.offset for chunk in chunks] == ends[:-1]
    assert ends[-1] == size
    assert [(chunk.index, chunk.total) for chunk in chunks] == [(i, len(chunks)) for i in range(len(chunks))]
    assert all(chunk.length > 0 for chunk in chunks)
    if edge < chunk_size and size > max(chunk_size, 2 * edge):
        first, *middle, last = chunks
        assert first.length == edge <= last.length < edge + len(chunks)
        assert len({chunk.length for chunk in middle}) == 1
        assert middle[0].length <= chunk_size
        full_rows = len(middle) == 1 or len(middle) % 4 == 0
        assert full_rows or size - 2 * edge < 4 * edge
    else:
        assert chunks == plan(size, chunk_size)


def test_chunks_are_halved_down_to_one_mebibyte() -> None:
    """After a 413 the chunk size halves, not below 1 MiB."""
    assert halved(50 << 20) == 25 << 20
    assert halved((1 << 20) + 1) == 1 << 20
    assert halved(1 << 20) is None
