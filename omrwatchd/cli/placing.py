"""A file or folder put into a drop folder: complete or not at all, with its sidecar and marker."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from omrwatchd.intake.scan import is_ignored
from omrwatchd.settings import Watch
from omrwatchd.sheets.companions import SIDECAR_SUFFIXES, marker_of
from omrwatchd.sheets.export import BLOCK, copy_range, new_file, put_in_place
from omrwatchd.sheets.source import SourceChanged

MODE = 0o660


def put(source: bytes, target: bytes, fields: Mapping[str, Any], watch: Watch, *, move: bool) -> None:
    """Sidecar right before the ZIP: from the moment that the ZIP is there it counts. The marker last.

    Args:
        source: a ZIP or a folder of pictures.
        target: where it will be.
        fields: what a sidecar beside it says; empty for none.

    Raises:
        FileExistsError: ``target`` or a sidecar of it is there.
        OSError: it can't be copied; nothing of it is left.
    """
    for suffix in (b"", *SIDECAR_SUFFIXES):
        if os.path.lexists(target + suffix):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target + suffix)
    with contextlib.ExitStack() as undo:

        def describe() -> None:
            if fields:
                _write(target + b".toml", _toml(fields))
                undo.callback(_remove, target + b".toml")

        if not (move and _renamed(source, target, describe)):
            _copy(source, target, watch, describe, move=move)
        undo.pop_all()
    if watch.done_marker is not None:
        with contextlib.suppress(FileExistsError):
            _write(marker_of(target, watch.done_marker), b"")


def _copy(source: bytes, target: bytes, watch: Watch, describe: Callable[[], None], *, move: bool) -> None:
    """Under a hidden name, then renamed; what is moved is compared first."""
    if os.path.isdir(source):
        _copy_folder(source, target, watch, describe)
    else:
        with new_file(target, MODE) as descriptor:
            _fill(source, descriptor, verify=move)
            _hand_over(descriptor, os.path.dirname(target))
            describe()
    if move:  # the copy is on disk, compared; the daemon may have it already
        _remove(source)


def _fill(source: bytes, target: int, *, verify: bool) -> None:
    with open(source, "rb") as file:
        before = os.fstat(file.fileno())
        try:
            copy_range(file.fileno(), target, 0, before.st_size)
            os.fsync(target)
        except SourceChanged:
            raise _changing() from None
        now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise _changing()
        if verify and not _same(file, target):
            raise OSError(errno.EIO, "the copy differs from the original, which is kept")


def _changing() -> OSError:
    return OSError(errno.EBUSY, "it changed while it was copied")


def _same(original: BinaryIO, copy: int) -> bool:
    original.seek(0)
    os.lseek(copy, 0, os.SEEK_SET)
    with open(copy, "rb", closefd=False) as again:
        while block := original.read(BLOCK):
            if again.read(BLOCK) != block:
                return False
        return not again.read(1)


def _copy_folder(source: bytes, target: bytes, watch: Watch, describe: Callable[[], None]) -> None:
    """Its pictures and whatever else lies directly in it; always compared."""
    folder, name = os.path.split(target)
    partial = os.path.join(folder, b"." + name[:240] + b".part")
    if not is_ignored(os.path.basename(partial), watch.ignore):
        words = "watch.ignore hides no folder that is still being copied; add '.*' to it"
        raise OSError(errno.EINVAL, words)
    _remove(partial)  # of a try that was killed
    os.mkdir(partial)
    try:
        for inner in os.listdir(source):
            path = os.path.join(source, inner)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with new_file(os.path.join(partial, inner), MODE) as descriptor:
                    _fill(path, descriptor, verify=True)
                    _hand_over(descriptor, folder)
        _hand_over(partial, folder)
        describe()
        put_in_place(partial, target)
    finally:
        _remove(partial)


def _hand_over(place: bytes | int, folder: bytes) -> None:
    """The daemon must be able to read and to move it: what root adds belongs to the drop folder's owner."""
    os.chmod(place, MODE | (0o110 if os.path.isdir(place) else 0))
    owner = os.stat(folder)
    with contextlib.suppress(PermissionError):
        os.chown(place, owner.st_uid if os.geteuid() == 0 else -1, owner.st_gid)


def _renamed(source: bytes, target: bytes, describe: Callable[[], None]) -> bool:
    """Whether a rename did it; across file systems, none does."""
    if os.lstat(source).st_dev != os.stat(os.path.dirname(target)).st_dev:
        return False
    describe()
    try:
        put_in_place(source, target)
    except FileExistsError:
        raise
    except OSError:
        _remove(target + b".toml")  # it comes again with the copy
        return False
    with contextlib.suppress(OSError):
        _hand_over(target, os.path.dirname(target))
    return True


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


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
    _hand_over(path, os.path.dirname(path))
