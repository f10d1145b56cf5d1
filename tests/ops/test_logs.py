from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from omrwatchd import events
from omrwatchd.ops import logs
from omrwatchd.settings import Log


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
