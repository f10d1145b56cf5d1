"""What must hold before a start, said in one sentence for each thing that does not."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from omrwatchd.delivery.connections import proxy_of, tls_context
from omrwatchd.delivery.credentials import read_token
from omrwatchd.delivery.login import read_password
from omrwatchd.errors import Problem
from omrwatchd.intake.mounts import mount_of
from omrwatchd.intake.rights import may_write, nearest
from omrwatchd.settings import Notify, Settings, Watch


def problems(settings: Settings, *, every_folder: bool = False) -> list[Problem]:
    """Everything that keeps the daemon from working with these settings.

    Folders of one watch do not while another watch has its own: intake tells of them, and waits for them.
    ``every_folder``: for one that is to deliver what is there now, and waits for nothing.
    """
    found = [*_token(settings), *tls_files(settings), *proxy(settings)]
    keys = ["watch" if number == 0 else f"watch[{number}]" for number in range(len(settings.watch))]
    absent = [list(_folders(watch, key)) for watch, key in zip(settings.watch, keys, strict=True)]
    if every_folder or all(absent):
        found += [problem for of_watch in absent for problem in of_watch]
    for watch, key in zip(settings.watch, keys, strict=True):
        found += nested(watch, key)
    found += joined(settings.watch)
    found += file_place("queue.path", settings.queue_file)
    found += on_network("queue.path", settings.queue_file)
    found += file_place("summary.path", settings.summary_file)
    found += command(settings.notify)
    return found


def command(notify: Notify) -> Iterator[Problem]:
    if notify.command and shutil.which(notify.command[0]) is None:
        yield Problem(
            "command_missing",
            f"notify.command {notify.command[0]} is no program that this user can run.",
            "Check its path and its rights.",
        )


def _token(settings: Settings) -> Iterator[Problem]:
    try:
        if settings.server.login is not None:
            read_password(settings.server.login)
        else:
            read_token(settings.server)
    except Problem as problem:
        yield problem


def tls_files(settings: Settings) -> Iterator[Problem]:
    server = settings.server
    for key in ("ca_file", "client_cert", "client_key"):
        file: Path | None = getattr(server, key)
        if file is not None and not (os.path.isfile(file) and os.access(file, os.R_OK)):
            yield Problem("file_unreadable", f"server.{key} {file} is no readable file.", "Check its path.")
            return
    try:
        tls_context(server)
    except Problem as problem:
        yield problem


def proxy(settings: Settings) -> Iterator[Problem]:
    try:
        proxy_of(settings.server)
    except Problem as problem:
        yield problem


def _folders(watch: Watch, key: str) -> Iterator[Problem]:
    if (problem := _absent(watch, key)) is not None:
        yield problem
    else:
        yield from _writable(f"{key}.drop", watch.drop)
    for name, folder in (("done", watch.done_folder), ("failed", watch.failed_folder)):
        yield from _writable(f"{key}.{name}", folder)


def _absent(watch: Watch, key: str) -> Problem | None:
    try:
        if stat.S_ISDIR(os.stat(watch.drop).st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a share that fails, or a folder above it that is private
        return Problem(
            "folder_unreadable",
            f"{key}.drop {watch.drop} can't be looked at: {error.strerror}.",
            "Check the share, and this user's rights on the folders above it.",
        )
    return Problem(
        "folder_missing",
        f"{key}.drop {watch.drop} is not an existing folder.",
        "Make it, or mount the share.",
    )


def nested(watch: Watch, key: str) -> Iterator[Problem]:
    """Settings compare the paths as they are written; links may still join them."""
    drop = _real(watch.drop)
    for name, folder in (("done", watch.done_folder), ("failed", watch.failed_folder)):
        target = _real(folder)
        if drop.is_relative_to(target) or target.is_relative_to(drop):
            yield Problem(
                "folders_nested",
                f"{key}.drop {watch.drop} and {key}.{name} {folder} lie inside one another.",
                "Put them side by side.",
            )


def _real(folder: Path) -> Path:
    """Without its links, as far as they can be followed: Path.resolve() raises where they are a loop."""
    return Path(os.path.realpath(folder))


def joined(watches: Sequence[Watch]) -> Iterator[Problem]:
    """Two drop folders that are one, or lie in one another, by a link: each file would be two watches'."""
    for number, watch in enumerate(watches):
        for other in watches[:number]:
            one, two = _real(watch.drop), _real(other.drop)
            if one.is_relative_to(two) or two.is_relative_to(one):
                yield Problem(
                    "folders_nested",
                    f"watch[{number}].drop {watch.drop} and the drop folder {other.drop} of {other.name!r} "
                    "are one folder, or lie inside one another.",
                    "Give each [[watch]] a drop folder of its own.",
                )


def _writable(key: str, folder: Path) -> Iterator[Problem]:
    """The folder, or the nearest existing one above it in which it would be made, can be written."""
    place = nearest(folder)
    if not os.path.isdir(place):
        yield Problem("no_folder", f"{key} {folder} can't be made: {place} is no folder.", "Check the path.")
    elif not may_write(place):
        yield Problem(
            "folder_not_writable",
            f"{key} {folder} can't be written by this user.",
            "Give the user that runs omrwatchd write permission.",
        )


def on_network(key: str, file: Path, mountinfo: bytes | None = None) -> Iterator[Problem]:
    """SQLite's locks and its write-ahead log do not hold on a network file system."""
    mount = mount_of(os.fsencode(file.parent), mountinfo)
    if mount is not None and mount.is_network:
        yield Problem(
            "queue_on_network",
            f"{key} {file} lies on a network file system ({mount.fs_type}), where a queue is not safe.",
            "Name a place on a local disk.",
        )


def file_place(key: str, file: Path) -> Iterator[Problem]:
    if os.path.isdir(file):
        yield Problem("not_a_file", f"{key} {file} is a folder.", "Name a file in it.")
    elif os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK):
        yield Problem(
            "file_not_writable", f"{key} {file} can't be written by this user.", "Check its rights."
        )
    else:
        yield from _writable(key, file.parent)
