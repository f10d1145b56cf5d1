from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.lifecycle import Service
from omrwatchd.model import WorkerState
from omrwatchd.ops.liveness import LISTING_SECONDS, Liveness, Watched, worker_limit
from omrwatchd.ops.report import Report
from omrwatchd.ops.status_line import status_line
from omrwatchd.ops.systemd import Notifier, plain, watchdog_seconds
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.glimpse import Glimpse
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings
from tests.ops.manager import Manager
from tests.waiting import until


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    ear = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", ear.address)
    yield ear
    ear.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    with closing(Notifier()) as speaker:
        yield speaker


class HandClock(SystemClock):
    """Monotonic time moves when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


class Stuck(Service):
    """A thread that signs, and then blocks in a read that nothing ends but the test."""

    def __init__(self) -> None:
        super().__init__("stuck", lambda _name, _death: None)
        self.reader, self.writer = os.pipe()

    def run(self) -> None:
        self.sign()
        os.read(self.reader, 1)
        while not self.stopping:
            self.bell.wait(0.01)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    thread = Stuck()
    thread.start()
    until(lambda: thread.signs == 1)
    yield thread
    os.write(thread.writer, b"x")
    thread.stop()
    assert thread.join(10)
    os.close(thread.reader)
    os.close(thread.writer)


def test_each_message_goes_alone_and_a_status_only_when_it_changes(
    manager: Manager, notifier: Notifier
) -> None:
    """systemd hears ready, one STATUS for each change, WATCHDOG by itself, and a reload with its time."""
    notifier.ready()
    for text in ("idle", "idle", "uploading Pr\xfcfung \U0001f4c4\n.zip \udcfc"):
        notifier.status(text)
    notifier.alive()
    notifier.reloading(12.5)
    notifier.stopping()
    assert manager.heard() == [
        "READY=1",
        "STATUS=idle",
        "STATUS=uploading Pr\\xfcfung \\U0001f4c4\\n.zip \\udcfc",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STOPPING=1",
    ]


def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of systemd the main thread is not even woken."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with closing(Notifier()) as notifier:
        notifier.ready()
    assert not notifier.heard
    assert Report(notifier, SystemClock(), lambda _event: None).pause is None


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("60000000", None, 60.0),
        ("60000000", "own", 60.0),
        ("60000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog_is_for_this_process_only(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, seconds: float | None
) -> None:
    """As sd_watchdog_enabled(3) has it: a time, and no other process named."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert watchdog_seconds() == seconds


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (
            Glimpse(WorkerState.UPLOADING, None, 52_300_000.0, "scan.zip", 43, 3),
            "uploading scan.zip 43 % at 52 MB/s, 3 waiting",
        ),
        (
            Glimpse(WorkerState.UPLOADING, None, 1_240_000.0, "scan.zip", 43, 0),
            "uploading scan.zip 43 % at 1.2 MB/s",
        ),
        (Glimpse(WorkerState.UPLOADING, None, None, "scan.zip", 0, 0), "uploading scan.zip 0 %"),
        (
            Glimpse(WorkerState.UPLOADING, "The server asks for a pause.", None, "scan.zip", 43, 3),
            "uploading scan.zip 43 %: The server asks for a pause, 3 waiting",
        ),
        (Glimpse(WorkerState.IDLE, None, None, None, None, 0), "waiting for files"),
        (Glimpse(WorkerState.COOLDOWN, None, None, "scan.zip", 100, 2), "cooling down, 2 waiting"),
        (Glimpse(WorkerState.PAUSED, None, None, None, None, 2), "paused by an operator, 2 waiting"),
        (Glimpse(WorkerState.HELD, "No answer.", None, None, None, 1), "held: No answer, 1 waiting"),
        (
            Glimpse(WorkerState.PROCESSING, "the OMR queue is busy", None, "scan.zip", 100, 0),
            "scan.zip is uploaded and waits for its processing: the OMR queue is busy",
        ),
    ],
)
def test_status_line_says_what_the_daemon_is_at(seen: Glimpse, line: str) -> None:
    """One line for each state, with what waits behind it."""
    assert status_line(seen) == line


def test_status_line_has_a_limit_and_notes() -> None:
    """A name of 300 letters is cut; what else matters stands behind."""
    long = Glimpse(WorkerState.UPLOADING, None, None, "x" * 300, 5, 1)
    line = status_line(long, ("the drop folder /srv/scans is away",))
    assert line == f"uploading {'x' * 57}... 5 %, 1 waiting; the drop folder /srv/scans is away"


def test_plain_is_ascii_whatever_comes() -> None:
    """No character can make sdnotify lose the message, and none can add a line to it."""
    text = "".join(map(chr, range(0x300))) + "\udc80\U0001f4c4"
    assert plain(text).isascii()
    assert plain(text).isprintable()


def test_silent_thread_is_found_with_the_place_where_it_hangs(stuck: Stuck) -> None:
    """A thread that blocks for longer than a step may take is named with its innermost calls; once anew."""
    clock = HandClock()
    liveness = Liveness([Watched(stuck, 900.0)], clock)
    assert liveness.silences() == []
    clock.at += 900
    assert liveness.silences() == []
    clock.at += 1
    [silence] = liveness.silences()
    assert (silence.thread, silence.seconds, silence.is_new) == ("stuck", 901.0, True)
    assert "run (test_systemd.py:" in silence.stack
    clock.at += 20
    [again] = liveness.silences()
    assert not again.is_new
    stuck.sign()
    assert liveness.silences() == []


def test_rest_that_was_announced_is_no_silence(stuck: Stuck) -> None:
    """Ten minutes between two scans of a slow share: fine, because intake said so."""
    clock = HandClock()
    stuck.sign(600.0)
    liveness = Liveness([Watched(stuck, 60.0)], clock)
    assert liveness.silences() == []
    clock.at += 659
    assert liveness.silences() == []
    clock.at += 2
    assert [silence.thread for silence in liveness.silences()] == ["stuck"]


def test_limits_leave_room_for_slow_shares_and_patient_settings() -> None:
    """A request may use up its time limits several times over; a listing may take half an hour."""
    server = {"base_url": "https://omr.example.org", "connect_timeout": 10, "read_timeout": 1000}
    settings = Settings(server=server, watch=[{"drop": "/srv/scans/drop"}])  # type: ignore[arg-type]
    assert worker_limit(settings) >= 4000
    assert LISTING_SECONDS >= 1800


def test_watchdog_is_fed_while_all_threads_advance_and_no_longer(
    manager: Manager, notifier: Notifier, stuck: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WATCHDOG=1 at a third of its time; never again once a thread hangs, which is announced once."""
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    clock, told = HandClock(), []
    report = Report(notifier, clock, told.append)
    file = tmp_path / "queue.db"
    engine, quick = open_database(file, create=True), open_quick(file)
    row = WorkerRow(engine, quick, clock)
    row.register()
    with report.of(file, [Watched(stuck, 100.0)]):
        for _ in range(75):  # two and a half minutes in ticks of 2 s; the thread hangs all the while
            report.tick()
            clock.at += 2.0
    fed = manager.heard().count("WATCHDOG=1")
    assert 5 <= fed <= 7
    assert [type(event) for event in told] == [events.ThreadSilent]
    assert manager.messages.count("STATUS=waiting for files") == 1
    quick.dispose()
    engine.dispose()


def test_status_follows_the_queue_and_what_is_announced(
    manager: Manager, notifier: Notifier, tmp_path: Path
) -> None:
    """A drop folder that goes away and a refused configuration are said until they are mended."""
    clock = HandClock()
    report = Report(notifier, clock, lambda _event: None)
    file = tmp_path / "queue.db"
    engine, quick = open_database(file, create=True), open_quick(file)
    row = WorkerRow(engine, quick, clock)
    row.register()

    def line() -> str:
        clock.at += 2.0
        report.tick()
        return [message for message in manager.heard() if message.startswith("STATUS=")][-1]

    with report.of(file, []):
        assert line() == "STATUS=waiting for files"
        row.show(WorkerState.HELD, reason="The server can't be reached.")
        assert line() == "STATUS=held: The server can't be reached"
        row.show(WorkerState.IDLE)
        report.listen(events.DropFolderLost("default", "/srv/scans/drop", "gone"))
        report.listen(events.ConfigRefused("/etc/x.toml", "config_invalid", "…"))
        assert line().startswith("STATUS=waiting for files; nothing comes from /srv/scans/drop: gone; the ch")
        report.listen(events.DropFolderBack("default", "/srv/scans/drop"))
        report.listen(events.ConfigReloaded("/etc/x.toml", "q", ()))
        assert line() == "STATUS=waiting for files"
        said = len(manager.heard())
        for _ in range(5):
            line()
        assert len(manager.heard()) == said
    quick.dispose()
    engine.dispose()
