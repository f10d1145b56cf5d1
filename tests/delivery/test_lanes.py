"""Requests side by side, and how much each of them hands over at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.delivery.body import BLOCK_SECONDS, LARGEST_BLOCK, SMALLEST_BLOCK, BlockSize
from omrwatchd.delivery.faults import Fault, Kind
from omrwatchd.delivery.lanes import TICK_SECONDS, Lanes
from omrwatchd.delivery.retry import Failed
from omrwatchd.errors import Problem


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def failing(kind: Kind) -> Callable[[], int]:
    def fail() -> int:
        raise Failed(Fault(kind, Problem(kind.name.lower(), "It failed.")))

    return fail


def test_quick_tasks_cost_no_tick_each(pool: ThreadPoolExecutor) -> None:
    """A tick asks the database: a fast line's chunks must not each wait for one. All are told of."""
    ticks, told = 0, dict[int, int]()

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def on_done(good: dict[int, int]) -> None:
        assert not told.keys() & good.keys()
        told.update(good)

    lanes = Lanes(pool, lambda: None)
    began = time.monotonic()
    for _ in range(5):
        told.clear()
        results = lanes.run({index: lambda index=index: index * 2 for index in range(100)}, tick, on_done)  # type: ignore[misc]
        assert results == told == {index: index * 2 for index in range(100)}
    assert ticks <= (time.monotonic() - began) / TICK_SECONDS + 1


def test_ticks_go_on_while_a_task_lasts(pool: ThreadPoolExecutor) -> None:
    """A stop is noticed although no chunk ends."""
    enough = threading.Event()
    ticks = iter(range(3))
    lanes = Lanes(pool, lambda: None)
    assert lanes.run({0: lambda: enough.wait(30)}, lambda: next(ticks, None) is None and enough.set()) == {
        0: True
    }


def test_after_a_failure_none_begins(pool: ThreadPoolExecutor) -> None:
    """Those under way end; the gravest failure is the one that is told."""
    failed, begun = threading.Event(), []

    def last() -> int:
        begun.append(threading.current_thread())
        failed.wait(30)
        return 0

    def slow() -> int:
        failed.wait(30)
        return failing(Kind.FILE)()

    tasks: dict[int, Callable[[], int]] = {0: slow, 1: slow, 2: slow, 3: failing(Kind.CHUNK)}
    tasks |= {index: last for index in range(4, 50)}
    done: list[int] = []

    def tick() -> None:
        failed.set()

    with pytest.raises(Failed) as raised:
        Lanes(pool, lambda: None).run(tasks, tick, done.extend)
    assert raised.value.fault.kind is Kind.FILE
    assert len(begun) <= 1  # the lane that failed may take one up before the worker thread hears of it
    assert len(done) == len(begun)


@given(
    rates=st.lists(st.floats(1e3, 1e10), min_size=1, max_size=40),
    lengths=st.lists(st.integers(1, LARGEST_BLOCK), min_size=1),
)
def test_block_stays_within_its_bounds(rates: list[float], lengths: list[int]) -> None:
    """Whatever the line does; what was shorter than it might have been teaches nothing."""
    size = BlockSize()
    for rate, length in zip(rates, lengths * len(rates), strict=False):
        before = size.bytes
        size.learn(length, length / rate)
        assert SMALLEST_BLOCK <= size.bytes <= LARGEST_BLOCK
        if length != before:
            assert size.bytes == before


@given(rate=st.floats(1e3, 1e10))
def test_block_finds_the_size_for_a_steady_line(rate: float) -> None:
    """It takes a quarter of a second at most, or is the smallest; it is no smaller than it need be."""
    size = BlockSize()
    for _ in range(10):
        size.learn(size.bytes, size.bytes / rate)
    assert size.bytes / rate <= BLOCK_SECONDS or size.bytes == SMALLEST_BLOCK
    assert size.bytes * 2 / rate >= BLOCK_SECONDS or size.bytes == LARGEST_BLOCK
