"""Notifications: a real command for what matters, in nobody's way."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from omrwatchd import events
from omrwatchd.events import Event, Hooks
from omrwatchd.ops.attendants import attendants
from omrwatchd.ops.notify import WAITING
from omrwatchd.settings import ConfigProblem, Settings, load
from tests.waiting import HurriedClock, until

E = TypeVar("E", bound=Event)
FAILED = events.FileFailed(7, "scan.zip", "refused", "The server said: no")


class Desk:
    """Where events are announced, and what the command left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.announced: list[Event] = []
        self.hooks = Hooks([self.announced.append])

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.announced if isinstance(event, kind)]

    def told(self) -> list[dict[str, Any]]:
        file = self.folder / "told.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextlib.contextmanager
def notifying(folder: Path, script: str, **notify: object) -> Iterator[Desk]:
    """A daemon's attendants whose notify.command is ``script``, run by the shell in ``folder``."""
    program = folder / "alert.sh"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    program.chmod(0o755)
    (folder / "drop").mkdir(exist_ok=True)
    settings = Settings(
        server={"base_url": "http://127.0.0.1:1", "token": "t0p-s3cret"},
        queue={"path": folder / "queue.db"},
        notify={"command": [str(program), "word"]} | notify,
        watch=({"drop": folder / "drop"},),
    )  # type: ignore[arg-type]
    desk = Desk(folder)
    deaths: list[BaseException] = []
    with attendants(settings, HurriedClock(), desk.hooks, lambda _name, death: deaths.append(death)):
        yield desk
    assert not deaths


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_command_reads_the_event_as_json(tmp_path: Path) -> None:
    """For each of the five events the command runs once, with one JSON object on its standard input."""
    with notifying(tmp_path, "cat >> told.jsonl") as desk:
        desk.hooks(FAILED)
        desk.hooks(events.FileRefused(8, "b.zip", 10, "not_a_zip", "b.zip is no ZIP."))
        desk.hooks(events.QueueHeld("server_unreachable", "The server can't be reached."))
        desk.hooks(events.QueueReleased(12.5))
        desk.hooks(events.Silence(90))
        desk.hooks(events.FileQueued(9, "c.zip", 1, 1, 1))
        until(lambda: len(desk.told()) == 5)
        until(lambda: len(desk.seen(events.NotifySent)) == 5)
    told = desk.told()
    assert [each["event"] for each in told] == [
        "file_failed", "file_refused", "queue_held", "queue_released", "silence",
    ]  # fmt: skip
    assert set(told[0]) == {"ts", "host", "level", "event", "job", "file", "code", "error"}
    assert (told[0]["job"], told[0]["file"], told[0]["code"]) == (7, "scan.zip", "refused")
    assert told[0]["ts"].endswith("Z")


def test_delivery_never_waits_for_the_command(tmp_path: Path) -> None:
    """However slow the command is, announcing takes no time; what is too much is dropped, and logged."""
    with notifying(tmp_path, "exec sleep 600", timeout_seconds=5) as desk:
        began = time.monotonic()
        for _ in range(WAITING + 20):
            desk.hooks(FAILED)
        assert time.monotonic() - began < 2
        told = until(lambda: [each for each in desk.seen(events.NotifyFailed) if "dropped" in each.reason])
        assert "more were dropped" in told[0].reason
        desk.hooks(events.DaemonStopping("SIGTERM"))


def test_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """After timeout_seconds neither the command nor its children run any more, and the next one goes on."""
    script = "test -f first && exec cat >> told.jsonl\ntouch first\nsleep 600 &\necho $! > child\nsleep 600"
    with notifying(tmp_path, script, timeout_seconds=20) as desk:
        desk.hooks(FAILED)
        child = int(until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip()))
        assert is_running(child)
        [failure] = until(lambda: desk.seen(events.NotifyFailed))
        assert (failure.about, failure.reason) == ("file_failed", "it was killed after 20 s")
        until(lambda: not is_running(child), what="the end of the child")
        desk.hooks(FAILED)
        until(desk.told)


def test_command_that_may_not_be_killed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs as another user, as sudo does, is beyond our signals; the next one goes on."""

    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    script = "test -f pid && exec cat >> told.jsonl\necho $$ > pid; exec sleep 600"
    with notifying(tmp_path, script, timeout_seconds=20) as desk:
        desk.hooks(FAILED)
        until(lambda: desk.seen(events.NotifyFailed))
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        desk.hooks(FAILED)
        until(desk.told)


def test_command_that_fails_is_logged_with_its_last_words(tmp_path: Path) -> None:
    """Exit code and last line of standard error are in the log; a secret in them is not."""
    with notifying(tmp_path, "echo first >&2; echo 'no route with t0p-s3cret' >&2; exit 3") as desk:
        desk.hooks(FAILED)
        [failure] = until(lambda: desk.seen(events.NotifyFailed))
    assert failure.reason == "it ended with exit code 3: no route with ***"


def test_command_that_is_not_there_is_logged(tmp_path: Path) -> None:
    """A missing program is one line in the log; the daemon goes on."""
    with notifying(tmp_path, "", command=["/no/such/alert"]) as desk:
        desk.hooks(FAILED)
        [failure] = until(lambda: desk.seen(events.NotifyFailed))
    assert failure.reason == "/no/such/alert can't be run: No such file or directory"


def test_command_that_reads_nothing_or_says_very_much_is_no_trouble(tmp_path: Path) -> None:
    """Input that nobody reads and megabytes of errors block nothing and are not kept."""
    script = "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo last >&2; exit 1"
    with notifying(tmp_path, script, timeout_seconds=300) as desk:
        desk.hooks(events.FileFailed(1, "a.zip", "refused", "y" * 200_000))
        [failure] = until(lambda: desk.seen(events.NotifyFailed))
    assert failure.reason == "it ended with exit code 1: last"


def test_command_gets_no_secret_and_no_word_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command's environment lacks our settings and sockets, and the event lacks the token."""
    monkeypatch.setenv("omrwatchd_server__token", "t0p-s3cret")
    for name in ("OMRWATCHD_PASSWORD", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "t0p-s3cret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    with notifying(tmp_path, "env > env; cat > told.jsonl") as desk:
        desk.hooks(events.FileFailed(1, "a.zip", "refused", "The server said: t0p-s3cret is wrong"))
        until(desk.told)
    found = (tmp_path / "env").read_text()
    assert "LANG=C.UTF-8" in found
    for word in ("OMRWATCHD_", "NOTIFY_SOCKET", "CREDENTIALS", "WATCHDOG", "t0p-s3cret"):
        assert word not in found
    assert desk.told()[0]["error"] == "The server said: *** is wrong"


def test_stop_lets_the_last_words_out(tmp_path: Path) -> None:
    """What waits when the daemon stops is still told; the stop takes no longer than it may."""
    with notifying(tmp_path, "cat >> told.jsonl") as desk:
        for _ in range(3):
            desk.hooks(FAILED)
        desk.hooks(events.DaemonStopping("idle"))
    assert len(desk.told()) == 3


def test_stop_does_not_wait_for_a_command_that_hangs(tmp_path: Path) -> None:
    """A stop gives the running command three seconds (of the daemon's clock), and then kills it."""
    with notifying(tmp_path, "echo $$ > pid; exec sleep 600", timeout_seconds=600) as desk:
        desk.hooks(FAILED)
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
        desk.hooks(FAILED)
        began = time.monotonic()
        desk.hooks(events.DaemonStopping("SIGTERM"))
    assert time.monotonic() - began < 3
    assert not is_running(pid)
    assert [each.reason for each in desk.seen(events.NotifyFailed)] == [
        "it was still running when the daemon was stopped",
        "the daemon was stopped",
    ]


def test_reload_does_not_wait_for_a_command_that_hangs(tmp_path: Path) -> None:
    """Attendants that leave without a word of a stop have three seconds, too: delivery waits for them."""
    with notifying(tmp_path, "echo $$ > pid; exec sleep 600", timeout_seconds=600) as desk:
        desk.hooks(FAILED)
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
        desk.hooks(FAILED)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert not is_running(pid)
    assert [each.reason for each in desk.seen(events.NotifyFailed)] == [
        "it was still running when the configuration was read again",
        "the configuration was read again",
    ]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Neither descriptors nor threads are left after many notifications."""
    with notifying(tmp_path, "cat >> told.jsonl") as desk:
        desk.hooks(FAILED)
        until(desk.told)
        until(lambda: desk.seen(events.NotifySent))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            desk.hooks(FAILED)
        until(lambda: len(desk.seen(events.NotifySent)) == 11)
        assert len(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "notify"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('command = "mail ops"', "notify.command: must be a list of words"),
        ('command = ["bin/alert"]', "notify.command: must begin with an absolute path"),
        ('silence_window = ["08:00"]', "notify.silence_window: must be two different times of day"),
        ('silence_window = ["08:00", "08:00"]', "notify.silence_window: must be two different times of day"),
        ('silence_window = ["8", "18:00"]', "must be a time of day such as 08:00"),
        ("timeout_seconds = 0", "notify.timeout_seconds"),
        (
            'silence_minutes = 600\nsilence_window = ["08:00", "18:00"]',
            "notify: silence_minutes must be less than the 600 minutes of silence_window",
        ),
        ('silence_minutes = 300\nsilence_window = ["22:00", "02:00"]', "less than the 240 minutes"),
    ],
)
def test_wrong_settings_are_one_sentence(tmp_path: Path, line: str, words: str) -> None:
    """The sentence names the key and shows how it is meant."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[server]\nbase_url = "https://omr.example.org"\n[[watch]]\ndrop = "/srv/drop"\n[notify]\n' + line
    )
    with pytest.raises(ConfigProblem) as raised:
        load(file)
    assert words in raised.value.summary
