"""`omrwatchd add FILE…`: into the drop folder complete or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omrwatchd.cli.placing import put
from omrwatchd.errors import Problem
from omrwatchd.intake.admit import duplicate
from omrwatchd.intake.route import check_count, read_sidecar, route
from omrwatchd.intake.scan import is_ignored, is_wanted
from omrwatchd.model import UploadType, display_name
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings, Watch
from omrwatchd.sheets.archive import check_sheets, read_archive
from omrwatchd.sheets.companions import Beside, read_beside
from omrwatchd.sheets.pictures import list_pictures


def add(
    settings: Settings,
    views: Views,
    file: Path,
    watch_name: str,
    metadata: Mapping[str, str | int],
    *,
    move: bool,
) -> str:
    """Put a ZIP (or, for a watch of images, a folder) into a drop folder; what was done, in words.

    ``metadata`` has a sidecar's fields; they go before those of a sidecar beside ``file``, which comes along.

    Raises:
        Problem: intake would refuse it, the name is taken, or it can't be copied.
    """
    watch = _watch(settings, watch_name)
    source = os.path.abspath(os.fsencode(file))
    name = display_name(os.path.basename(source))
    sheets, fingerprint = _looked_into(source, name, watch)
    if fingerprint and settings.queue.duplicates == "refuse" and (earlier := views.delivered(fingerprint)):
        raise duplicate(name, earlier)
    beside = read_beside(source)
    fields = (
        read_sidecar(beside.text, display_name(os.path.basename(beside.path))) if beside is not None else {}
    ) | dict(metadata)
    _check_fields(name, fields, sheets, watch)
    try:
        put(source, os.path.join(os.fsencode(watch.drop), os.path.basename(source)), fields, watch, move=move)
    except FileExistsError as error:
        taken = display_name(os.path.basename(os.fsencode(error.filename or source)))
        advice = "Wait until it is delivered, or give it another name."
        raise Problem("name_taken", f"{taken} is in {watch.drop} already.", advice) from None
    except BlockingIOError:
        summary = f"{name} is being put into {watch.drop} by another process just now."
        raise Problem("name_taken", summary, "Wait for it.") from None
    except OSError as error:
        summary = f"{name} can't be put into {watch.drop}: {error.strerror or error}."
        raise Problem("not_added", summary, "Nothing half is left there.") from None
    if move and beside is not None:
        _remove_sidecar(beside)
    how = "moved" if move else "copied"
    about = f"{name} ({sheets:,} sheet{'' if sheets == 1 else 's'})"
    return f"{about} is {how} into {watch.drop}; it is queued when it has settled."


def _watch(settings: Settings, name: str) -> Watch:
    if not name:
        return settings.watch[0]
    watch = settings.watch_named(name)
    if watch is None:
        known = ", ".join(watch.name for watch in settings.watch)
        raise Problem("usage_watch", f"There is no [[watch]] named {name!r}.", f"There are: {known}.")
    return watch


def _looked_into(source: bytes, name: str, watch: Watch) -> tuple[int, str]:
    """How many sheets it has, and a ZIP's fingerprint; refuses what intake would refuse, in its words."""
    try:
        kind = os.lstat(source).st_mode
        if watch.upload_type is UploadType.IMAGES:
            return _pictures_of(source, kind, name, watch), ""
        if not stat.S_ISREG(kind):
            raise Problem("not_a_zip", f"{name} is no regular file.", "Name the ZIP itself.")
        if not is_wanted(os.path.basename(source), watch.ignore):
            summary = f"{name} would not be noticed: it does not end in .zip, or watch.ignore has it."
            raise Problem("not_wanted", summary, "Rename it.")
        with open(source, "rb") as opened:
            archive = read_archive(opened.fileno(), name)
        check_sheets(archive, name)
        return archive.sheets, archive.fingerprint
    except OSError as error:
        raise Problem("unreadable", f"{name} can't be read: {error.strerror}.", "Check the path.") from None


def _pictures_of(source: bytes, kind: int, name: str, watch: Watch) -> int:
    pictures = list_pictures(source) if stat.S_ISDIR(kind) else None
    if pictures is None or not pictures.entries or pictures.folders:
        summary = f"{name} is no folder with pictures directly in it, which {watch.name!r} takes."
        raise Problem("not_pictures", summary, "Name such a folder.")
    if is_ignored(os.path.basename(source), watch.ignore):
        raise Problem("not_wanted", f"{name} would not be noticed: watch.ignore has it.", "Rename it.")
    return len(pictures.entries)


def _check_fields(name: str, fields: Mapping[str, Any], sheets: int, watch: Watch) -> None:
    routed = route(name, fields, "The sidecar", name, watch.pattern, watch.metadata)
    check_count(name, routed.sheets, sheets)


def _remove_sidecar(beside: Beside) -> None:
    with contextlib.suppress(OSError):
        os.unlink(beside.path)
