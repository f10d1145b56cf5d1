"""Where a file belongs: sidecar, then the names in its path, then the watch's own values. Pure."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omrwatchd.errors import Problem
from omrwatchd.model import Metadata, UploadType

FIELDS = ("upload_type", "task_id", "notes", "profile_id")
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""JSON can spell them, but neither UTF-8 nor a server's database may be able to hold them."""
ZIP_TYPES = tuple(str(kind) for kind in UploadType if kind is not UploadType.IMAGES)


@dataclass(frozen=True, slots=True)
class Route:
    metadata: Metadata
    sheets: int | None
    """How many sheets the sidecar promises."""


def read_sidecar(text: str, name: str) -> dict[str, Any]:
    """The table in a sidecar; ``name`` is the sidecar's own and ends in .toml or .json.

    Raises:
        Problem: ``sidecar_invalid``, saying what is wrong and how it should look.
    """
    try:
        table = json.loads(text) if name.lower().endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise _invalid(name, f"can't be read ({reason})") from None
    if not isinstance(table, dict):
        raise _invalid(name, "is no table of settings")
    for key in table:
        if key not in (*FIELDS, "sheets"):
            close = difflib.get_close_matches(key, (*FIELDS, "sheets"), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise _invalid(name, f"has an unknown setting {_short(key)}{hint}")
    return table


def route(
    name: str,
    sidecar: Mapping[str, Any] | None,
    sidecar_name: str,
    relative: str,
    pattern: str | None,
    default: Metadata,
) -> Route:
    """Each field from the first that has it.

    Args:
        name: the ZIP's, for sentences.
        relative: its path below the drop folder, for ``pattern`` (a regular expression with named groups).

    Raises:
        Problem: ``sidecar_invalid`` or ``task_missing``.
    """
    given: dict[str, Any] = {}
    if pattern is not None:
        found = re.search(pattern, relative)
        if found is not None:
            given = {key: value for key, value in found.groupdict().items() if value}
    given |= dict(sidecar or {})
    where = sidecar_name if sidecar else name
    metadata = Metadata(
        upload_type=_upload_type(given.get("upload_type"), default.upload_type, where),
        task_id=_text(given.get("task_id"), "task_id", where, line=True) or default.task_id,
        notes=_text(given.get("notes"), "notes", where, line=False) or default.notes,
        profile_id=_number(given.get("profile_id"), "profile_id", where, default.profile_id),
    )
    if metadata.upload_type.needs_task_id and metadata.task_id is None:
        raise Problem(
            "task_missing",
            f"{name} needs a task number (its type is {metadata.upload_type}), and none is given.",
            f'Put a text file named {name}.toml beside it with the line: task_id = "4711"',
        )
    return Route(metadata, _number(given.get("sheets"), "sheets", where, None))


def _upload_type(value: Any, default: UploadType, where: str) -> UploadType:
    if value is None:
        return default
    allowed = (str(UploadType.IMAGES),) if default is UploadType.IMAGES else ZIP_TYPES
    if value not in allowed:
        raise _invalid(where, f"gives the upload_type {_short(value)}; here it is {' or '.join(allowed)}")
    return UploadType(value)


def _text(value: Any, key: str, where: str, *, line: bool) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or (line and not value.isprintable()):
        raise _invalid(where, f"gives a {key} that is no text")
    if _NO_TEXT.search(value):
        raise _invalid(where, f"gives {key} with control characters or halves of characters in it")
    return value


def _number(value: Any, key: str, where: str, default: int | None) -> int | None:
    if value is None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 18:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _invalid(where, f"gives {key} as {_short(value)}, which is no number")
    return value


def readable_path(path: bytes) -> str:
    """A path below the drop folder as ``pattern`` sees it.

    A name on it that is no UTF-8 is read as Latin-1, which is what wrote most of those.
    """
    return "/".join(map(_readable_name, path.split(b"/")))


def _readable_name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def check_count(name: str, promised: int | None, counted: int) -> None:
    """A sidecar's number of sheets must be what is in the ZIP.

    Raises:
        Problem: ``sheets_differ``, with both numbers.
    """
    if promised is not None and promised != counted:
        raise Problem(
            "sheets_differ",
            f"{name} should hold {promised} sheets, but there are {counted} in it.",
            "Scan what is missing, or correct the number, and drop the file again.",
        )


def _short(value: object) -> str:
    """For a sentence: a sidecar may hold 64 KiB of anything."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…"


def _invalid(where: str, what: str) -> Problem:
    end = "" if what.endswith("?") else "."
    advice = 'It should hold lines such as: task_id = "4711"'
    return Problem("sidecar_invalid", f"{where} {what}{end}", advice)
