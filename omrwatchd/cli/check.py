"""`omrwatchd check`: the configuration that is in effect, as TOML, each setting with where it comes from."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ByteSize, SecretStr

from omrwatchd.ops.redact import HIDDEN, Redactor
from omrwatchd.settings import ENV_PREFIX, MIB, Settings, Watch

LONG = 60
"""Characters of a line that the comments of the others do not line up with."""
_REDACTOR = Redactor()


def effective(settings: Settings, file: Path) -> str:
    """All settings as TOML that can be loaded again, but for the secrets."""
    written = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    lines = [
        f"# The configuration {file} is good. Each setting, and where it comes from:",
        "# default, file, or the variable of the environment that gives it.",
    ]
    for section in type(settings).model_fields:
        value = getattr(settings, section)
        given = written.get(section, {})
        if isinstance(value, BaseModel):
            lines += ["", f"[{section}]", *_lines(section, value, given, settings)]
            continue
        for number, table in enumerate(value):
            table_given = given[number] if isinstance(given, list) and number < len(given) else {}
            lines += ["", f"[[{section}]]", *_lines(section, table, table_given, settings)]
    return "\n".join(lines)


def _lines(section: str, table: BaseModel, given: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    shown = []
    for key in type(table).model_fields:
        value = getattr(table, key)
        source = _source(section, key, given)
        if value is None and (value := _derived(section, key, table, settings)) is None:
            shown.append((f"# {key} is not set", ""))
        else:
            shown.append((f"{key} = {_toml(value)}", source))
    width = max((len(text) for text, source in shown if source and len(text) <= LONG), default=0)
    for text, source in shown:
        yield f"{text:<{width}}  # {source}" if source else text


def _source(section: str, key: str, given: Mapping[str, Any]) -> str:
    """The environment goes first (settings.py): key by key, table by table, or a section whole, as JSON."""
    one, whole = f"{ENV_PREFIX}{section}__{key}".upper(), f"{ENV_PREFIX}{section}".upper()
    for name in sorted(os.environ):
        if name.upper() == one or name.upper().startswith(f"{one}__"):
            return name
    for name in os.environ:
        if name.upper() == whole and _holds(name, key):
            return name
    return "file" if key in given else "default"


def _holds(name: str, key: str) -> bool:
    document = json.loads(os.environ[name])  # it was loaded, so it is JSON
    tables = document if isinstance(document, list) else [document]
    return any(key in table for table in tables)


def _derived(section: str, key: str, table: BaseModel, settings: Settings) -> Any:
    """What a setting that is left out amounts to."""
    if isinstance(table, Watch):
        return {"done": table.done_folder, "failed": table.failed_folder}.get(key)
    return {"queue.path": settings.queue_file, "summary.path": settings.summary_file}.get(f"{section}.{key}")


def _inline(table: BaseModel) -> str:
    fields = ((key, getattr(table, key)) for key in type(table).model_fields)
    return "{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in fields if value is not None) + " }"


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        return f'"{HIDDEN}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ByteSize):
        return f'"{value // MIB}MiB"' if value and value % MIB == 0 else str(int(value))
    if isinstance(value, int | float):
        return str(int(value) if value == int(value) else value)
    if isinstance(value, BaseModel):
        return _inline(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return _string(str(value))


def _string(text: str) -> str:
    """A basic string (TOML 1.0); JSON escapes the same but for DEL. What looks like a secret goes."""
    readable = _REDACTOR.text(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(readable, ensure_ascii=False).replace("\x7f", "\\u007f")
