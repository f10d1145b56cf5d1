"""`omrwatchd add FILE…`: into the drop folder complete or not at all."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.errors import Problem
from omrwatchd.model import UploadType, display_name
from omrwatchd.settings import Settings, Watch
from omrwatchd.sheets.archive import check_sheets, read_archive
from omrwatchd.sheets.export import put_in_place
from omrwatchd.sheets.pictures import list_pictures


@dataclass(frozen=True, slots=True)
class Added:
    """What is told of one file."""

    words: str


def add(
    settings: Settings, file: Path, watch_name: str, metadata: Mapping[str, str | int], *, move: bool
) -> Added:
    """Put a ZIP (or, for a watch of images, a folder) into a drop folder.

    ``metadata`` has a sidecar's fields.

    Raises:
        Problem: it is no whole ZIP with sheets, the name is taken, or it can't be copied.
    """
    watch = _watch(settings, watch_name)
    name = os.path.basename(os.path.abspath(os.fsencode(file)))
    _refuse_unfit(file, display_name(name), watch)
    target = os.path.join(os.fsencode(watch.drop), name)
    sidecar = target + b".toml"
    try:
        for path in (target, *([sidecar] if metadata else [])):
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if metadata:  # first: from the moment that the ZIP is there it counts
            _write(sidecar, _toml(metadata))
        try:
            _place(os.path.abspath(os.fsencode(file)), target, move=move)
        except OSError:
            if metadata:
                os.unlink(sidecar)
            raise
    except FileExistsError:
        summary = f"{display_name(name)} (or its sidecar) is in {watch.drop} already."
        raise Problem("name_taken", summary, "Wait until it is delivered, or give it another name.") from None
    except OSError as error:
        summary = f"{display_name(name)} can't be put into {watch.drop}: {error.strerror or error}."
        raise Problem("not_added", summary, "Nothing half is left there.") from None
    how = "moved" if move else "copied"
    return Added(f"{display_name(name)} is {how} into {watch.drop}; it is queued when it has settled.")


def _watch(settings: Settings, name: str) -> Watch:
    if not name:
        return settings.watch[0]
    watch = settings.watch_named(name)
    if watch is None:
        known = ", ".join(watch.name for watch in settings.watch)
        raise Problem("usage_watch", f"There is no [[watch]] named {name!r}.", f"There are: {known}.")
    return watch


def _refuse_unfit(file: Path, name: str, watch: Watch) -> None:
    try:
        kind = os.stat(file).st_mode
        if watch.upload_type is UploadType.IMAGES:
            if not stat.S_ISDIR(kind) or not list_pictures(os.fsencode(file)).entries:
                summary = f"{name} is no folder of pictures, which {watch.name!r} takes."
                raise Problem("not_pictures", summary, "Name a folder.")
            return
        if not stat.S_ISREG(kind):
            raise Problem("not_a_zip", f"{name} is no regular file.", "Name a ZIP.")
        with file.open("rb") as opened:
            check_sheets(read_archive(opened.fileno(), name), name)
    except OSError as error:
        raise Problem("unreadable", f"{name} can't be read: {error.strerror}.", "Check the path.") from None
    if not name.lower().endswith(".zip"):
        raise Problem("not_a_zip", f"{name} does not end in .zip, so it would not be noticed.", "Rename it.")


def _place(source: bytes, target: bytes, *, move: bool) -> None:
    if move and _renamed(source, target):
        return
    partial = os.path.join(os.path.dirname(target), b"." + os.path.basename(target)[:240] + b".part")
    try:
        if os.path.isdir(source):
            shutil.copytree(os.fsdecode(source), os.fsdecode(partial))
        else:
            shutil.copyfile(source, partial)
            _sync(partial)
        put_in_place(partial, target)
    finally:
        if os.path.isdir(partial):
            shutil.rmtree(partial)
        elif os.path.lexists(partial):
            os.unlink(partial)
    if move:
        _remove_copied(source, target)


def _renamed(source: bytes, target: bytes) -> bool:
    """Whether a rename did it; not across file systems."""
    try:
        if os.path.isdir(source):
            os.rename(source, target)  # refuses a folder that is not empty
        else:
            os.link(source, target)  # unlike a rename it never overwrites
            os.unlink(source)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _remove_copied(source: bytes, target: bytes) -> None:
    if os.path.isdir(source):
        shutil.rmtree(source)
    elif os.path.lexists(target) and not filecmp.cmp(source, target, shallow=False):
        raise OSError(errno.EIO, "the copy differs from the original, which is kept")
    else:  # the daemon may have taken it already
        os.unlink(source)


def _sync(path: bytes) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _toml(metadata: Mapping[str, str | int]) -> bytes:
    """A TOML basic string is a JSON string, but for DEL."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in metadata.items()
    ]
    return ("\n".join(lines) + "\n").encode()


def _write(path: bytes, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o664)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
