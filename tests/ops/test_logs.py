from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from omrwatchd import events
from omrwatchd.ops import logs
from omrwatchd.settings import Log, Server
from tests.ops.documents import event_kinds


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The process's logging is one for all tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_events_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line: time in UTC, level, the event's stable name, its fields; any name is valid UTF-8."""
    logs.configure(Log(format="json"))
    logs.listener()(events.FileFailed(3, "a\udcff\n.zip", "refused", "The server said: no"))
    [line] = written(capsys)
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "level": "error",
        "event": "file_failed",
        "job": 3,
        "file": "a\\udcff\n.zip",
        "code": "refused",
        "error": "The server said: no",
    }


def test_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the configured level nothing is written."""
    logs.configure(Log(level="warning", format="json"))
    logs.listener()(events.CooldownStarted(5.0))
    logs.listener()(events.FileQueued(1, "a.zip", 1, 1, 1))
    assert written(capsys) == []


def test_libraries_speak_json_too_and_tokens_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's own log line is an event; a bearer token in any text is cut out."""
    logs.configure(Log(format="json"))
    logging.getLogger("some.library").error("header was %s", "Authorization: Bearer abc.def")
    [line] = written(capsys)
    assert (line["event"], line["library"]) == ("library_message", "some.library")
    assert "abc.def" not in str(line)
    assert "Bearer ***" in str(line)


def test_secret_of_the_settings_reaches_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The token is cut out of events, headers, exceptions and of the settings themselves, in both formats."""
    server = Server.model_validate({"base_url": "https://omr.example.org", "token": "t0p-s3cret"})
    for form in ("json", "console"):
        logs.configure(Log.model_validate({"format": form, "level": "debug"}), server)
        logs.listener()(events.FileFailed(1, "a.zip", "refused", "The server said: t0p-s3cret is unknown"))
        library = logging.getLogger("some.library")
        library.error("headers %s of %r", {"authorization": "Bearer t0p-s3cret"}, server)
        try:
            raise ValueError("Token t0p-s3cret has the wrong length")
        except ValueError:
            library.exception("it broke")
        structlog.get_logger().info("any", nested={"deep": [("t0p-s3cret",)]}, error=ValueError("t0p-s3cret"))
    text = capsys.readouterr().err
    assert "t0p-s3cret" not in text
    assert text.count("it broke") == 2
    assert "ValueError: Token *** has the wrong length" in text


def test_no_event_has_a_place_for_a_secret() -> None:
    """No field of an event is meant for a token, a header or the settings."""
    fields = {field.name for kind in event_kinds() for field in dataclasses.fields(kind)}
    assert not fields & {"token", "password", "headers", "authorization", "settings", "secret"}


def test_lines_begin_with_time_level_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    """The order of the keys is the same for all; durations have three digits."""
    logs.configure(Log(level="debug", format="json"))
    logs.listener()(events.ChunkAcknowledged(1, 0, 3, 52_428_800, 1.23456789))
    line = capsys.readouterr().err
    assert list(json.loads(line)) == ["ts", "level", "event", "job", "part", "chunk", "bytes", "seconds"]
    assert '"seconds": 1.235' in line


PROGRAM = """
import logging, sys
from omrwatchd import events
from omrwatchd.ops import logs
from omrwatchd.settings import Log, Server
from tests.ops.documents import event_kinds
logs.configure(Log(format=sys.argv[1], level="debug"))
tell = logs.listener()
tell(events.CooldownStarted(5.0))
tell(events.FileQueued(1, "a.zip", 1, 1, 1))
tell(events.SourceChanged(1, "a\\nb.zip", "it was replaced"))
tell(events.QueueHeld("server_unreachable", "The server can't be reached."))
tell(events.ThreadDied("worker", "RuntimeError: no"))
logging.getLogger("some.library").warning("two\\nlines")
"""


def lines_into(receiver: socket.socket, sender: socket.socket, journal: str, form: str) -> list[str]:
    """What a process writes whose standard error is that socket, as journald's is."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, form],
        stderr=sender,
        env=os.environ | {"JOURNAL_STREAM": journal},
        check=True,
        timeout=60,
    )
    sender.close()
    with receiver.makefile(encoding="utf-8") as stream:
        return stream.read().splitlines()


def stream_pair() -> tuple[socket.socket, socket.socket, str]:
    receiver, sender = socket.socketpair()
    found = os.fstat(sender.fileno())
    return receiver, sender, f"{found.st_dev}:{found.st_ino}"


def test_under_journald_lines_have_priorities_and_no_second_time() -> None:
    """`journalctl -p err` finds the errors, and no line shows a time beside the journal's own."""
    receiver, sender, stream = stream_pair()
    with receiver:
        lines = lines_into(receiver, sender, stream, "auto")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<4>"]
    documents = [json.loads(line[3:]) for line in lines]
    assert not [document for document in documents if "ts" in document or "timestamp" in document]
    assert documents[3]["event"] == "queue_held"


def test_console_lines_under_journald_are_single_and_prioritised() -> None:
    """The format for people works there as well: one line an event, whatever its words."""
    receiver, sender, stream = stream_pair()
    with receiver:
        lines = lines_into(receiver, sender, stream, "console")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<4>"]
    assert not re.search(r"\d\d:\d\d:\d\d", " ".join(lines))


@pytest.mark.parametrize("journal", ["", "1:1", "no:number", "12"])
def test_elsewhere_the_lines_keep_their_time(journal: str) -> None:
    """Standard error that was sent elsewhere is no journal, though systemd started the process."""
    receiver, sender, _stream = stream_pair()
    with receiver:
        lines = lines_into(receiver, sender, journal, "json")
    for line in lines:
        when = datetime.fromisoformat(json.loads(line)["ts"])
        assert when.utcoffset() == timedelta(0)


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_that_can_not_be_written_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """A full disk, or a reader that went away, costs lines of the log, and no thread that writes one."""
    ears, mouth = os.pipe()
    os.close(ears)
    nowhere = open(mouth, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - to close it is an error, too
    monkeypatch.setattr(sys, "stderr", nowhere)
    logs.configure(Log.model_validate({"format": form}))
    for _ in range(1000):
        logs.listener()(events.FileQueued(1, "a.zip", 1, 1, 1))
    logging.getLogger("some.library").error("no line either")
    with contextlib.suppress(BrokenPipeError):
        nowhere.close()
    assert capsys.readouterr() == ("", "")


def test_people_at_a_terminal_see_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`auto` shows colours and words when standard error is a terminal, JSON when it is not."""
    leader, follower = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", PROGRAM, "auto"], stderr=follower, check=True, timeout=60)
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: all of it is read
            while block := os.read(leader, 65536):
                shown += block
    finally:
        os.close(leader)
    assert b"queue_held" in shown
    assert b'{"' not in shown
    assert b"\x1b[" in shown
