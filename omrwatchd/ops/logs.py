"""Events as log lines: JSON for machines, colours for people, on standard error."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from omrwatchd.events import Announce, Event
from omrwatchd.settings import Log

_BEARER = re.compile(r"(?i)bearer\s+\S+")


def wants_console(settings: Log) -> bool:
    """For people when they look: standard error is a terminal and nothing else was asked for."""
    return settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())


def configure(settings: Log) -> None:
    """Set structlog up for the whole process."""
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if wants_console(settings):
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _redact,
            _printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)
    logging.captureWarnings(True)
    # its emitters report their own stopping as an error; that they live is watched by intake itself
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)


class _Foreign(logging.Handler):
    """What libraries log becomes an event like any other: the stream stays one JSON object a line."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write("library_message", library=record.name, message=record.getMessage())


def _redact(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tokens are no part of any event; should a library's words bring one, it goes no further."""
    for key, value in line.items():
        if isinstance(value, str):
            line[key] = _BEARER.sub("Bearer ***", value)
    return line


def _printable(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A name that is no UTF-8 must not break the stream."""
    for key, value in line.items():
        if isinstance(value, str):
            line[key] = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return line


def listener() -> Announce:
    """A hook that logs every event under its own name."""
    log = structlog.get_logger()

    def write(event: Event) -> None:
        # `event` is structlog's word for the line's name, so a field of that name would be lost
        getattr(log, event.level)(event.title(), **dataclasses.asdict(event))

    return write
