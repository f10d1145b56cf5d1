"""Requests side by side: chunk threads send, the worker thread waits for them, keeps books and ticks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from omrwatchd.delivery.faults import Kind
from omrwatchd.delivery.retry import Failed

TICK_SECONDS = 0.25
"""How soon the worker thread notices a stop, a cancel, or that it should show progress."""

T = TypeVar("T")


def _nothing(_done: object) -> None:
    pass


class Lanes:
    """The chunk threads, seen from the worker thread."""

    def __init__(self, pool: ThreadPoolExecutor, give_up: Callable[[], None]) -> None:
        """``give_up`` ends what is under way, when the books can't be kept or nobody waits any more."""
        self._pool = pool
        self._give_up = give_up
        self._ticked_at = time.monotonic()

    def run(
        self,
        tasks: dict[int, Callable[[], T]],
        tick: Callable[[], None],
        on_done: Callable[[dict[int, T]], None] = _nothing,
    ) -> dict[int, T]:
        """Run the tasks while ticking; their results. After a failure none begins; those under way end.

        ``on_done`` is called here, on the worker thread, with what has ended well since the last call: a
        lane never waits for the disk. Raises the failure that weighs most.
        """
        futures: dict[Future[T], int] = {self._pool.submit(task): index for index, task in tasks.items()}
        pending = set(futures)
        over: SimpleQueue[Future[T]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(over.put)
        failures: list[BaseException] = []
        try:
            while pending:
                done = _taken(over, self._next_tick())
                pending -= done
                ended = [future for future in done if not future.cancelled()]
                failures += [error for future in ended if (error := future.exception()) is not None]
                if failures:
                    _cancel(pending)
                if good := {futures[each]: each.result() for each in ended if each.exception() is None}:
                    on_done(good)
                if self._next_tick() <= 0:
                    self._ticked_at = time.monotonic()
                    tick()
        except BaseException:
            # nothing of it goes on unseen, nor is waited for as long as a server may take to answer
            _cancel(pending)
            while pending:
                self._give_up()
                pending -= _taken(over, TICK_SECONDS)
            raise
        if failures:
            raise min(failures, key=_gravity)
        return {index: future.result() for future, index in futures.items()}

    def _next_tick(self) -> float:
        """Seconds until it is due."""
        return self._ticked_at + TICK_SECONDS - time.monotonic()


def _taken(over: SimpleQueue[Future[T]], seconds: float) -> set[Future[T]]:
    """What is over: at least one within ``seconds``, or none."""
    found: set[Future[T]] = set()
    try:
        found.add(over.get(timeout=max(0.0, seconds)))
        while True:
            found.add(over.get_nowait())
    except Empty:
        return found


def _cancel(pending: set[Future[T]]) -> None:
    for future in pending:
        future.cancel()


def _gravity(error: BaseException) -> int:
    """Which of several chunks' failures decides: anything but a fault first, then the gravest fault."""
    if not isinstance(error, Failed):
        return 0
    order = (Kind.UNKNOWN, Kind.SESSION, Kind.SIZE, Kind.CREDENTIALS, Kind.FILE)
    kind = error.fault.kind
    return 1 + (order.index(kind) if kind in order else len(order))
