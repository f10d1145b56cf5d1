"""Events as log lines: JSON for machines, colours for people, on standard error.

Under journald (JOURNAL_STREAM, systemd.exec(5)) each line begins with its priority (sd-daemon(3)) and has no
time of its own: the journal keeps both, and would show them twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from omrwatchd.events import Announce, Event
from omrwatchd.ops.redact import Redactor
from omrwatchd.settings import Log, Server

LIBRARY_MESSAGE = "library_message"
"""The one name in the log that is no event of ours: what a library said, as a warning or an error."""
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s numbers, which sd-daemon(3) takes before a line."""

Line = MutableMapping[str, Any]
Processor = Callable[[Any, str, Any], Any]


def wants_console(settings: Log) -> bool:
    """For people when they look: standard error is a terminal and nothing else was asked for."""
    return settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())


def under_journald(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether this descriptor is the journal's own socket, not one that was put in its place since."""
    device, colon, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not (colon and device.isdecimal() and inode.isdecimal()):
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))


def configure(settings: Log, server: Server | None = None) -> None:
    """Set structlog up for the whole process; ``server`` has the secrets that no line may show."""
    stream = sys.stderr
    structlog.configure(
        processors=_processors(wants_console(settings), into_journal(), Redactor(server)),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=lambda *_names: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)
    logging.captureWarnings(True)
    # its emitters report their own stopping as an error; that they live is watched by intake itself
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)


class _Lines(structlog.WriteLogger):
    """A line that can't be written (a full disk, a reader that went away) is lost; delivery goes on."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warning = error = critical = msg


def into_journal() -> bool:
    """Whether standard error is the journal."""
    try:
        return under_journald(os.environ, sys.stderr.fileno())
    except (OSError, ValueError):  # a stream without a descriptor
        return False


def _processors(console: bool, journal: bool, redactor: Redactor) -> list[Processor]:
    def redact(_logger: Any, _method: str, line: Line) -> Line:
        return {key: redactor.value(value) for key, value in line.items()}

    stamp = [] if journal else [_timestamp(console)]
    chain: list[Processor] = [structlog.processors.add_log_level, *stamp, redact, _in_order]
    chain.append(_for_people() if console else structlog.processors.JSONRenderer(ensure_ascii=False))
    return [*chain, _with_priority] if journal else chain


def _timestamp(console: bool) -> Processor:
    key = "timestamp" if console else "ts"  # the console puts what has its own word for it in front
    return structlog.processors.TimeStamper(fmt="iso", utc=True, key=key)


def _for_people() -> Processor:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _in_order(_logger: Any, _method: str, line: Line) -> Line:
    """The same beginning for every line; the fields follow in the order of the event."""
    first = {key: line.pop(key) for key in ("ts", "level", "event") if key in line}
    return {**first, **line}


def _with_priority(_logger: Any, method: str, rendered: str) -> str:
    """`<3>` before each line, of which a rendered text may have several."""
    mark = f"<{PRIORITIES[method]}>"
    return "\n".join(mark + each for each in rendered.split("\n"))


class _Foreign(logging.Handler):
    """What libraries log becomes an event like any other: the stream stays one JSON object a line."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        fields = {"library": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        write(LIBRARY_MESSAGE, **fields)


def listener() -> Announce:
    """A hook that logs every event under its own name."""
    log = structlog.get_logger()

    def write(event: Event) -> None:
        # `event` is structlog's word for the line's name, so a field of that name would be lost
        getattr(log, event.level)(event.title(), **dataclasses.asdict(event))

    return write
