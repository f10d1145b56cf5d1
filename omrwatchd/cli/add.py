"""`omrwatchd add FILE…`: into the drop folder complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omrwatchd.errors import Problem
from omrwatchd.intake.admit import duplicate
from omrwatchd.intake.route import check_count, read_sidecar, route
from omrwatchd.intake.scan import is_ignored, is_wanted
from omrwatchd.model import UploadType, display_name
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings, Watch
from omrwatchd.sheets.archive import check_sheets, read_archive
from omrwatchd.sheets.companions import SIDECAR_SUFFIXES, Beside, marker_of, read_beside
from omrwatchd.sheets.export import put_in_place
from omrwatchd.sheets.pictures import list_pictures

MODE = 0o660


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
        _put(
            source, os.path.join(os.fsencode(watch.drop), os.path.basename(source)), fields, watch, move=move
        )
    except FileExistsError as error:
        taken = display_name(os.path.basename(os.fsencode(error.filename or source)))
        advice = "Wait until it is delivered, or give it another name."
        raise Problem("name_taken", f"{taken} is in {watch.drop} already.", advice) from None
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


def _put(source: bytes, target: bytes, fields: Mapping[str, Any], watch: Watch, *, move: bool) -> None:
    """Sidecar first: from the moment that the ZIP is there it counts. The marker last."""
    for suffix in (b"", *SIDECAR_SUFFIXES):
        if os.path.lexists(target + suffix):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target + suffix)
    with _taken_back_unless_done(target + b".toml" if fields else None):
        if fields:
            _write(target + b".toml", _toml(fields))
        if not (move and _renamed(source, target)):
            _copy(source, target, watch, move=move)
    if watch.done_marker is not None:
        with contextlib.suppress(FileExistsError):
            _write(marker_of(target, watch.done_marker), b"")


@contextlib.contextmanager
def _taken_back_unless_done(path: bytes | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise


def _copy(source: bytes, target: bytes, watch: Watch, *, move: bool) -> None:
    folder, name = os.path.split(target)
    partial = os.path.join(folder, b"." + name[:240] + b".part")
    if os.path.isdir(source) and not is_ignored(os.path.basename(partial), watch.ignore):
        words = "watch.ignore hides no folder that is still being copied; add '.*' to it"
        raise OSError(errno.EINVAL, words)
    try:
        if os.path.isdir(source):
            _copy_folder(source, partial)
        else:
            _copy_file(source, partial, verify=move)
        put_in_place(partial, target)
    finally:
        _remove(partial)
    if move:  # the copy is on disk, compared; the daemon may have it already
        _remove(source)


def _copy_file(source: bytes, partial: bytes, *, verify: bool) -> None:
    before = os.stat(source)
    _remove(partial)  # of a try that was killed
    shutil.copyfile(source, partial)
    _hand_over(partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    now = os.stat(source)
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise OSError(errno.EBUSY, "it changed while it was copied")
    if verify and not filecmp.cmp(source, partial, shallow=False):
        raise OSError(errno.EIO, "the copy differs from the original, which is kept")


def _copy_folder(source: bytes, partial: bytes) -> None:
    """Its pictures and whatever else lies directly in it; always compared."""
    _remove(partial)
    os.mkdir(partial)
    for name in os.listdir(source):
        path = os.path.join(source, name)
        if stat.S_ISREG(os.lstat(path).st_mode):
            _copy_file(path, os.path.join(partial, name), verify=True)
    _hand_over(partial)


def _hand_over(path: bytes) -> None:
    """The daemon must be able to read and to move it: what root adds belongs to the drop folder's owner."""
    os.chmod(path, MODE | (0o110 if os.path.isdir(path) else 0))
    folder = os.stat(os.path.dirname(path))
    with contextlib.suppress(PermissionError):
        os.chown(path, folder.st_uid if os.geteuid() == 0 else -1, folder.st_gid)


def _renamed(source: bytes, target: bytes) -> bool:
    """Whether a rename did it; across file systems, none does."""
    try:
        put_in_place(source, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    with contextlib.suppress(OSError):
        _hand_over(target)
    return True


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _remove_sidecar(beside: Beside) -> None:
    with contextlib.suppress(OSError):
        os.unlink(beside.path)


def _toml(fields: Mapping[str, Any]) -> bytes:
    """A TOML basic string is a JSON string, but for DEL."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in fields.items()
        if value is not None
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _write(path: bytes, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _hand_over(path)
