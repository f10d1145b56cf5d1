"""A day of a scanner station: the real daemon and the real receiver, only the daemon's clock is hurried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from omrwatchd.receiver import Receiver
from tests.e2e.conftest import Machine
from tests.e2e.hurried_day import HOUR, DayClock
from tests.waiting import until
from tests.zips import sha256, write_zip

RATE = 2048
"""Bytes a second by day; at night there is no limit."""
LARGE = 6 * 1024 * 1024
"""By day this takes 51 minutes."""
REST = """
[notify]
command = ["{program}"]
timeout_seconds = 600
silence_minutes = 90
silence_window = ["08:00", "18:00"]
[retention]
done_days = 0.25
"""
UPLOAD = f'\ntimetable = [["06:00", {RATE}], ["20:00", 0]]'


@dataclass
class Day:
    """The station, and what was done to it at which hour."""

    machine: Machine
    clock: DayClock
    began: float
    midnight: float
    hashes: dict[str, str] = field(default_factory=dict)
    dropped_at: dict[str, float] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "tests.e2e.hurried_day", str(self.machine.folder / "config.toml")]
        with (self.machine.folder / "log.jsonl").open("ab") as log:
            process = subprocess.Popen(
                [*words, repr(self.began), repr(self.midnight)],
                stderr=log, stdin=subprocess.DEVNULL, env=os.environ | {"TZ": "UTC"},
            )  # fmt: skip
        self.machine.running.append(process)
        return process

    def reach(self, hour: float) -> None:
        """Live until then; it is later already where this machine is slow."""
        never = threading.Event()
        while (left := hour - self.clock.hour()) > 0:
            self.clock.wait(never, min(left * HOUR, 60.0))

    def scan(self, hour: float, size: int = 30_000) -> str:
        """At that hour a file is saved elsewhere, and renamed into the drop folder."""
        self.reach(hour)
        name = f"scan-{hour:05.2f}.zip"
        path = write_zip(self.machine.folder / name, sheets=3, size=size)
        self.hashes[name] = sha256(path)
        self.dropped_at[name] = self.clock.hour()
        path.rename(self.machine.drop / name)
        return name

    def scan_until(self, *hours: float) -> None:
        for hour in hours:
            self.scan(hour)

    def hour_of(self, stamp: str) -> float:
        """Of a time that the daemon wrote."""
        return (datetime.fromisoformat(stamp).timestamp() - self.midnight) / HOUR

    def told(self) -> list[tuple[str, float]]:
        """The notifications that the command got, with their hours."""
        lines = (self.machine.folder / "told.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [(event["event"], self.hour_of(event["ts"])) for event in events]

    def upload_seconds(self, name: str) -> float:
        [made] = [line for line in self.machine.log("batch_created") if line["file"] == name]
        return float(made["seconds"])


@pytest.fixture
def day(machine: Machine) -> Day:
    program = machine.folder / "alert.sh"
    program.write_text(f"#!/bin/sh\nexec cat >> {machine.folder}/told.jsonl\n")
    program.chmod(0o755)
    machine.configure(settle=5, cooldown=5, upload=UPLOAD)
    config = machine.folder / "config.toml"
    config.write_text(config.read_text() + REST.format(program=program))
    began = time.time()
    midnight = began // 86_400 * 86_400
    return Day(machine, DayClock(began, midnight), began, midnight)


def killed_in_the_middle(day: Day, process: subprocess.Popen[bytes], name: str) -> int:
    """A power cut once some of the file is on the server; how many chunks that is."""

    def acknowledged() -> list[dict[str, Any]]:
        [job] = {line["job"] for line in day.machine.log("file_queued") if line["file"] == name} or [None]
        return [line for line in day.machine.log("chunk_acknowledged") if line["job"] == job]

    until(acknowledged, 60)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert name in os.listdir(day.machine.drop)
    return len(acknowledged())


def outage(day: Day, receiver: Receiver, hours: tuple[float, float]) -> tuple[float, float]:
    """The server is away, and files come; the hours between which it really was."""
    day.reach(hours[0])
    receiver.stop()
    gone = day.clock.hour()
    day.scan_until(hours[0] + 0.25, hours[0] + 0.75)
    day.reach(hours[1])
    back = day.clock.hour()
    receiver.start()
    return gone, back


@pytest.mark.timeout(600)
def test_day_of_a_station(day: Day) -> None:
    """Files all day, a slow line by day, an hour's outage, a silent noon, a power cut, retention at work.

    In the end each file is on the server once and has one line in the summary log, and what ops asked for
    has happened at its hour.
    """
    receiver = day.machine.receiver
    process = day.start()
    at_night = day.scan(2.0, LARGE)
    day.scan_until(7.0, 7.5, 8.0)
    by_day = day.scan(8.5, LARGE)
    broken = day.machine.folder / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 cut off")
    broken.rename(day.machine.drop / "broken.zip")
    day.scan_until(9.5)
    gone, back = outage(day, receiver, (10.0, 11.0))
    day.scan_until(11.25, 11.5)
    cut_short = day.scan(15.0, LARGE)
    had = killed_in_the_middle(day, process, cut_short)
    process = day.start()
    day.scan_until(16.5, 17.0, 17.5, 19.0, 21.0, 22.0, 23.0)
    day.reach(24.0)
    lines = day.machine.await_summary(len(day.hashes) + 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0

    # all files, once, and one line each
    assert Counter(line["name"] for line in lines) == Counter([*day.hashes, "broken.zip"])
    assert {line["name"] for line in lines if line["status"] != "completed"} == {"broken.zip"}
    assert sorted(batch.sha256 for batch in receiver.batches) == sorted(day.hashes.values())
    assert receiver.duplicate_batches == []
    assert day.machine.names("drop") == []
    assert day.machine.names("failed") == ["broken.zip", "broken.zip.error.txt"]

    # the timetable
    assert day.upload_seconds(by_day) > 0.9 * LARGE / RATE > day.upload_seconds(at_night)

    # the outage: no file failed, and delivery went on by itself
    assert [name for name, _hour in day.told()] == [
        "file_refused", "queue_held", "queue_released", "silence"
    ]  # fmt: skip
    hours = dict(day.told())
    assert gone <= hours["queue_held"] <= back <= hours["queue_released"] < back + 1.0

    # a silence of 90 minutes inside the window, told once; the evening does not count
    last = day.dropped_at["scan-11.50.zip"]
    assert last + 1.5 <= hours["silence"] < 15.0

    # the power cut
    [resumed] = [line for line in day.machine.log("upload_started") if line["resumed_chunks"]]
    assert (resumed["file"], resumed["resumed_chunks"] >= had) == (cut_short, True)

    # retention: six hours later, at the next full hour of the daemon, and nothing sooner
    delivered = {line["name"]: day.hour_of(line["delivered"]) for line in lines if line["delivered"]}
    ended = day.clock.hour()
    kept = set(day.machine.names("done"))
    assert {name for name, hour in delivered.items() if hour > ended - 6.0} <= kept
    assert not {name for name, hour in delivered.items() if hour < 16.5} & kept
    assert Counter(line["file"] for line in day.machine.log("file_pruned")) == Counter(set(day.hashes) - kept)
    assert not day.machine.log("thread_silent")
    assert not day.machine.log("thread_died")
