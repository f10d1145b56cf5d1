"""The machine: who runs this, room on its disks, the kernel's limits, the metrics port."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

from omrwatchd.intake.mounts import mount_of
from omrwatchd.intake.rights import nearest
from omrwatchd.model import UploadType
from omrwatchd.ops.doctor.finding import Finding, fail, ok, reason_of, warn
from omrwatchd.settings import MIB, Settings, Watch

INOTIFY = Path("/proc/sys/fs/inotify")
GIB = 1024 * MIB
_MAKE_ROOM = "Make room there: delete what is not needed, or move it to another disk."


def examine_user(service_user: str) -> Finding:
    """Rights are those of whoever runs this: root's tell nothing of the daemon's."""
    user = _user_name()
    if os.geteuid() != 0:
        return ok("user", f"These are the rights of {user}; the daemon must run as the same user.")
    return warn(
        "user",
        "Run as root, who may do everything: whether the daemon's own user may, is not tested.",
        f"omrwatchd doctor --user {service_user}",
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


# room


def examine_space(settings: Settings) -> Iterator[Finding]:
    """For the queue, and where files end; a done folder on a disk of its own must take whole copies."""
    yield space("space:state", settings.queue_file.parent, fail_below=20 * MIB, warn_below=GIB // 2)
    for watch in settings.watch:
        for kind, folder in (("done", watch.done_folder), ("failed", watch.failed_folder)):
            apart = _device(nearest(folder)) != _device(watch.drop)
            least = 10 * GIB if apart else GIB
            yield space(f"space:{kind}:{watch.name}", folder, fail_below=20 * MIB, warn_below=least)


def _device(folder: Path) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return None


def space(name: str, folder: Path, *, fail_below: int, warn_below: int) -> Finding:
    """Free bytes, and free inodes where the file system counts them, for a user who is not root."""
    try:
        found = os.statvfs(nearest(folder))
    except OSError as error:
        return fail(name, f"The free space of {folder} can't be told: {reason_of(error)}.", "Check the path.")
    free = found.f_bavail * found.f_frsize
    if found.f_files and not found.f_favail:
        return fail(name, f"The disk of {folder} takes no more files (no free inodes).", _MAKE_ROOM)
    words = f"{shown(free)} are free for {folder}"
    if free < fail_below:
        return fail(name, f"Only {words}.", _MAKE_ROOM)
    if free < warn_below:
        return warn(name, f"Only {words}; {shown(warn_below)} should be.", _MAKE_ROOM)
    return ok(name, f"{words}.")


def shown(size: int) -> str:
    """A size as people read it."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


# limits


def examine_inotify(settings: Settings, limits: Path = INOTIFY) -> Finding:
    """Whether the kernel grants a watch for each folder that is listened to (inotify(7))."""
    needed = sum(_folders_heard(watch) for watch in settings.watch)
    if not needed:
        return ok("inotify", "Not used: every folder is looked at again and again.")
    try:
        watches = int((limits / "max_user_watches").read_text())
        instances = int((limits / "max_user_instances").read_text())
    except (OSError, ValueError):
        return ok("inotify", f"The kernel's limits can't be read here; {needed} watches are needed.")
    if needed > watches * 0.8 or instances < 8:
        return warn(
            "inotify",
            f"{needed} folders are to be listened to, and the kernel allows {watches} watches "
            f"and {instances} instances for each user: some files will be noticed only by the next look.",
            f"sysctl fs.inotify.max_user_watches={max(2 * needed, 65536)} fs.inotify.max_user_instances=128, "
            "and the same in /etc/sysctl.d/.",
        )
    return ok("inotify", f"{needed} watches are needed, {watches} allowed.")


def _folders_heard(watch: Watch) -> int:
    """How many watches one drop folder takes: one each for it and, where they matter, its subfolders."""
    mount = mount_of(os.fsencode(watch.drop))
    hears = watch.observer == "hints" or (watch.observer == "auto" and (mount is None or mount.gives_hints))
    if not hears or not os.path.isdir(watch.drop):
        return 0
    if not watch.recursive and watch.upload_type is not UploadType.IMAGES:
        return 1
    return sum(1 for _ in os.walk(os.fsencode(watch.drop)))


def metrics_port(listen: str, *, running: bool) -> Finding:
    """Whether the address for metrics can be had; a running daemon has it already."""
    host, _, port = listen.rpartition(":")
    address = (host.strip("[]"), int(port))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            if running and error.errno == errno.EADDRINUSE:
                return ok("metrics", f"The running daemon serves its metrics on {listen}.")
            return fail(
                "metrics",
                f"metrics.listen {listen} can't be had: {reason_of(error)}.",
                "Give another port, or end what uses this one (ss -ltnp shows it).",
            )
    return ok("metrics", f"metrics.listen {listen} is free.")
