"""Whether this user can read and move what scanners, which are other users, have put into a drop folder."""

from __future__ import annotations

import itertools
import os
import pwd
import stat
from pathlib import Path

from omrwatchd.intake.scan import FolderLost, Found, Scan, scan, scan_folders
from omrwatchd.model import UploadType, display_name
from omrwatchd.ops.doctor.finding import Finding, fail, ok, warn
from omrwatchd.settings import Watch

LOOKED_AT = 1000
"""Files: rights come from the folder and the share's settings, so the first ones tell of all."""
_ADVICE = (
    "Put the scanners' user and omrwatchd's into one group, and give the folder to it: "
    "chgrp GROUP {folder} && chmod 2770 {folder}. With Samba: force group = GROUP, create mask = 0660, "
    "directory mask = 2770."
)
_STICKY = "Take the sticky bit away: chmod -t {folder}"


def examine_rights(watch: Watch) -> Finding:
    """Read access and the right to move, judged file by file; nothing is moved."""
    name = f"rights:{watch.name}"
    try:
        seen = _scan(watch)
        obstacles = [found for path in _paths(seen) if (found := obstacle(path)) is not None]
    except (FolderLost, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return fail(name, f"watch.drop {watch.drop} can't be listed: {reason}.", _advice(watch.drop))
    obstacles += [f"{display_name(path)}: {reason}" for path, reason in seen.unreadable]
    if obstacles:
        more = f" (and {len(obstacles) - 1} more)" if len(obstacles) > 1 else ""
        return fail(name, f"{obstacles[0]}{more}.", _advice(watch.drop))
    if _is_sticky_for_us(watch.drop):
        return warn(
            name,
            f"{watch.drop} has the sticky bit: what other users put there can't be moved away by this one.",
            _STICKY.format(folder=watch.drop),
        )
    count = len(seen.files)
    if not count:
        return ok(name, f"{watch.drop} is empty now; its rights let this user move what comes.")
    looked = "All" if count <= LOOKED_AT else f"The first {LOOKED_AT}"
    return ok(name, f"{looked} of {count} files in {watch.drop} can be read and moved by this user.")


def _scan(watch: Watch) -> Scan:
    folder = os.fsencode(watch.drop)
    if watch.upload_type is UploadType.IMAGES:
        return scan_folders(folder, ignore=watch.ignore)
    return scan(folder, recursive=watch.recursive, ignore=watch.ignore)


def _paths(seen: Scan) -> list[bytes]:
    return [found.path for found in itertools.islice(_by_name(seen), LOOKED_AT)]


def _by_name(seen: Scan) -> list[Found]:
    return sorted(seen.files, key=lambda found: found.path)


def _advice(folder: Path) -> str:
    if _is_sticky_for_us(folder):
        return _STICKY.format(folder=folder)
    return _ADVICE.format(folder=folder)


def obstacle(path: bytes) -> str | None:
    """Why this user can't deliver the file (or folder of pictures) at ``path``; None when nothing hinders."""
    try:
        found = os.lstat(path)
        parent = os.stat(os.path.dirname(path))
    except FileNotFoundError:
        return None  # delivered meanwhile
    is_folder = stat.S_ISDIR(found.st_mode)
    shown = display_name(path)
    if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        return f"{shown} can't be read by this user ({_owner(found)})"
    if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        return f"{shown} can't be moved: its folder can't be written by this user ({_owner(parent)})"
    if _sticky(parent) and os.geteuid() not in (0, found.st_uid, parent.st_uid):
        return f"{shown} can't be moved: its folder has the sticky bit and the file is {_owner(found)}"
    if is_folder and not os.access(path, os.W_OK):
        # its '..' entry changes with its parent, so the kernel asks for the right to write it (rename(2))
        return f"{shown} can't be moved: the folder itself can't be written by this user ({_owner(found)})"
    return None


def _is_sticky_for_us(folder: Path) -> bool:
    found = os.stat(folder)
    return _sticky(found) and os.geteuid() not in (0, found.st_uid)


def _sticky(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_ISVTX)


def _owner(found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"owned by {owner}, mode {stat.S_IMODE(found.st_mode):04o}"
