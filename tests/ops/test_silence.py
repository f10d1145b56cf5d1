"""Silence: told once, inside the window, ended by the next file."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.events import Event, Hooks
from omrwatchd.ops.attendants import attendants
from omrwatchd.ops.silence import SilenceWatch, Window
from omrwatchd.settings import Notify, Settings
from tests.waiting import HurriedClock, until

ARRIVED = events.FileArriving("default", "a.zip", 1)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("times", "now", "open_for", "opens_in"),
    [
        (("08:00", "18:00"), 7 * HOUR, None, HOUR),
        (("08:00", "18:00"), 8 * HOUR, 0.0, 0.0),
        (("08:00", "18:00"), 12 * HOUR, 4 * HOUR, 20 * HOUR),
        (("08:00", "18:00"), 18 * HOUR, None, 14 * HOUR),
        (("22:00", "06:00"), 23 * HOUR, HOUR, 23 * HOUR),
        (("22:00", "06:00"), 5 * HOUR, 7 * HOUR, 17 * HOUR),
        (("22:00", "06:00"), 6 * HOUR, None, 16 * HOUR),
    ],
)
def test_window(times: tuple[str, str], now: float, open_for: float | None, opens_in: float) -> None:
    """A window has a beginning and an end, and may go over midnight."""
    window = Window.of(times)
    assert window is not None
    assert window.open_for(now) == open_for
    assert window.opens_in(now) == opens_in


@contextlib.contextmanager
def watching(folder: Path, **notify: object) -> Iterator[tuple[Hooks, list[Event]]]:
    (folder / "drop").mkdir()
    settings = Settings(
        server={"base_url": "http://127.0.0.1:1", "token": "right-token"},
        queue={"path": folder / "queue.db"},
        notify=notify,
        watch=({"drop": folder / "drop"},),
    )  # type: ignore[arg-type]
    told: list[Event] = []
    hooks = Hooks([lambda event: told.append(event) if isinstance(event, events.Silence) else None])
    deaths: list[BaseException] = []
    with attendants(settings, HurriedClock(), hooks, lambda _name, death: deaths.append(death)):
        yield hooks, told
    assert not deaths


def test_silence_is_told_once_and_ended_by_the_next_file(tmp_path: Path) -> None:
    """After silence_minutes without a file it is told, once; a file begins a new wait, told again."""
    with watching(tmp_path, silence_minutes=0.1) as (hooks, told):
        until(lambda: told)
        threading.Event().wait(1.5)  # more than twice the silence, by this clock
        assert len(told) == 1
        hooks(ARRIVED)
        until(lambda: len(told) == 2)


def test_files_that_arrive_put_it_off(tmp_path: Path) -> None:
    """As long as files come in time, nothing is told."""
    with watching(tmp_path, silence_minutes=0.4) as (hooks, told):
        pause = threading.Event()
        for _ in range(12):
            hooks(ARRIVED)
            pause.wait(0.25)  # a tenth of what would be a silence
        assert told == []
        until(lambda: told)


class SetClock:
    """A clock that stands where a test puts it."""

    def __init__(self, local: str) -> None:
        self.set(local)

    def set(self, local: str) -> None:
        self._at = datetime.fromisoformat(local).timestamp()

    def now(self) -> float:
        return self._at

    def monotonic(self) -> float:
        return self._at

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        raise AssertionError("nobody waits here")


def test_a_week_of_a_school(tmp_path: Path) -> None:
    """The night does not count, a long weekend is told once, and the alarm comes inside the window."""
    clock = SetClock("2026-11-02 07:00")
    told: list[Event] = []
    settings = Notify(silence_minutes=90, silence_window=("08:00", "18:00"))
    watch = SilenceWatch(settings, clock, told.append, lambda _name, death: None)

    def look(local: str) -> float:
        clock.set(local)
        return watch._look()

    assert look("2026-11-02 07:30") == 1800  # before it opens
    assert look("2026-11-02 08:00") == 90 * 60  # the night is no silence
    assert look("2026-11-02 09:00") == 30 * 60
    clock.set("2026-11-02 09:20")
    watch(ARRIVED)
    assert look("2026-11-02 09:30") == 80 * 60
    clock.set("2026-11-02 17:50")
    watch(events.FileQueued(1, "a.zip", 1, 1, 1))
    look("2026-11-02 18:05")
    look("2026-11-03 05:00")
    assert told == []
    look("2026-11-03 09:29:59")
    assert told == []
    look("2026-11-03 09:30")
    assert told == [events.Silence(940.0)]
    for day in range(4, 9):
        look(f"2026-11-0{day} 12:00")
    assert len(told) == 1
    clock.set("2026-11-09 10:00")
    watch(ARRIVED)
    look("2026-11-09 11:29")
    assert len(told) == 1
    look("2026-11-09 11:30")
    assert len(told) == 2


def test_file_that_grows_for_hours_is_no_silence() -> None:
    """A long copy is something that arrives; told of it every 20 min, intake is heard."""
    clock = SetClock("2026-11-02 08:00")
    told: list[Event] = []
    watch = SilenceWatch(Notify(silence_minutes=90), clock, told.append, lambda _name, death: None)
    watch(ARRIVED)
    for local in ("08:20", "08:40", "09:00", "09:20", "09:40", "10:00"):
        clock.set(f"2026-11-02 {local}")
        watch(events.FileStillGrowing("default", "a.zip", 1, 20))
        watch._look()
    assert told == []
    clock.set("2026-11-02 11:30")
    watch._look()
    assert told == [events.Silence(90.0)]


def test_it_waits_without_waking(tmp_path: Path) -> None:
    """Between two looks the thread sleeps: quiet hours cost nothing."""
    with watching(tmp_path, silence_minutes=600):
        thread = until(lambda: [t for t in threading.enumerate() if t.name == "silence"])[0]
        stat = Path(f"/proc/self/task/{thread.native_id}/status")

        def switches() -> int:
            line = next(line for line in stat.read_text().splitlines() if line.startswith("voluntary"))
            return int(line.split()[1])

        until(lambda: "S (sleeping)" in stat.read_text())
        before = switches()
        time.sleep(0.5)
        assert switches() - before <= 1
