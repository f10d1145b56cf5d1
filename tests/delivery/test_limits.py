from __future__ import annotations

import threading
from threading import Event as Bell

from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.clock import SystemClock
from omrwatchd.delivery.halt import Halt
from omrwatchd.delivery.limits import RateLimit, rate_at
from omrwatchd.model import Status
from omrwatchd.receiver import Receiver
from omrwatchd.settings import MIB, Upload
from tests.delivery.conftest import OpenStation

minutes = st.integers(0, 24 * 60 - 1)
tables = st.dictionaries(minutes, st.integers(0, 10**9), min_size=1, max_size=6)


@given(minutes, tables)
def test_latest_entry_of_the_timetable_is_in_force(minute: int, table: dict[int, int]) -> None:
    """Before the first entry of a day the last one of the day before holds; the order does not matter."""
    begun = [time for time in table if time <= minute]
    expected = table[max(begun)] if begun else table[max(table)]
    assert rate_at(minute, list(table.items()), 5) == expected
    assert rate_at(minute, list(reversed(table.items())), 5) == expected


def test_office_hours() -> None:
    """2 MiB/s from eight to six, free at night; max_rate only without a timetable."""
    table = [(8 * 60, 2 * MIB), (18 * 60, 0)]
    assert [rate_at(hour * 60, table, 7) for hour in (0, 7, 8, 17, 18, 23)] == [0, 0, 2 * MIB, 2 * MIB, 0, 0]
    assert rate_at(600, [], 7) == 7


class CountedClock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: Bell, seconds: float | None) -> bool:
        self.time += seconds or 0.0
        return event.is_set()


@given(st.integers(50_000, 50_000_000), st.lists(st.integers(1, MIB), min_size=1, max_size=60))
def test_what_goes_out_never_runs_ahead_of_the_rate(rate: int, wishes: list[int]) -> None:
    """At no moment is more out than the rate times the time that has passed, and one block."""
    clock = CountedClock()
    limit = RateLimit(Upload(max_rate=rate), clock)
    sent, start = 0, clock.time
    for wish in wishes:
        amount = limit.block(wish)
        limit.take(amount, Halt(lambda: None))
        assert sent <= rate * (clock.time - start) * 1.000001 + 1
        sent += amount


def test_four_threads_share_one_rate_within_five_percent() -> None:
    """Ten seconds of the clock of four senders at 2 MiB/s are 20 MiB."""

    class Hurried(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() * 10

        def wait(self, event: Bell, seconds: float | None) -> bool:
            return super().wait(event, None if seconds is None else seconds / 10)

    clock = Hurried()
    limit = RateLimit(Upload(max_rate=2 * MIB), clock)
    halt = Halt(lambda: None)
    out = [0, 0, 0, 0]
    start = clock.monotonic()

    def send(index: int) -> None:
        while True:
            amount = limit.block(MIB)
            limit.take(amount, halt)
            if clock.monotonic() - start >= 10:
                return
            out[index] += amount

    threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert abs(sum(out) / (20 * MIB) - 1) < 0.05
    assert min(out) > 0


def test_upload_keeps_to_the_rate(receiver: Receiver, open_station: OpenStation) -> None:
    """4 MiB at 2 MiB/s take about two seconds of the daemon's clock, whatever the number of threads."""
    with open_station(upload={"max_rate": "2MiB"}) as station:
        station.ends(station.drop(size=4 * MIB), Status.COMPLETED)
    log = [request for request in receiver.requests if request.kind == "chunk"]
    seconds = (max(r.ended or 0.0 for r in log) - min(r.started for r in log)) * 10
    assert seconds >= 1.8
