"""The folders of a [[watch]]: really written to, really moved between, and what they are mounted from."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from omrwatchd.clock import Clock
from omrwatchd.intake.folder import (
    RESCAN_SECONDS,
    RESCAN_SECONDS_WITHOUT_HINTS,
    SETTLE_SECONDS,
    SETTLE_SECONDS_NETWORK,
)
from omrwatchd.intake.mounts import Mount, mount_of
from omrwatchd.intake.rights import nearest
from omrwatchd.ops import preflight
from omrwatchd.ops.doctor.finding import Finding, fail, failed, ok, reason_of, warn
from omrwatchd.settings import Watch

FSTAB = Path("/etc/fstab")
SKEW_SECONDS = 60.0
_RIGHTS = "Give the user that runs omrwatchd the right to write there."
_ONE_MOUNT = (
    "They are one file system, but two mounts: with systemd, name the folder above them in one "
    "ReadWritePaths=, instead of each by itself."
)
_COPIES = (
    "Moves become copies, which take time and space. Put drop, done and failed on one file system "
    "(watch.done, watch.failed)."
)


def examine_folders(watch: Watch, clock: Clock) -> Iterator[Finding]:
    """Everything about the folders of one watch; what can't be told without the drop folder is left out."""
    yield from (failed(f"folders:{watch.name}", problem) for problem in preflight.nested(watch, "watch"))
    if not watch.drop.is_dir():
        yield fail(
            f"drop:{watch.name}",
            f"watch.drop {watch.drop} is not an existing folder.",
            "Make it, or mount the share.",
        )
        return
    mount = mount_of(os.fsencode(watch.drop))
    yield from unmounted(watch, mount, _text_of(FSTAB))
    yield from _drop_folder(watch, clock)
    yield target_folder(watch, "done", watch.done_folder)
    yield target_folder(watch, "failed", watch.failed_folder)
    yield noticing(watch, mount)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# really tried


class _Trial:
    """A hidden file that intake takes for none of its own: it is no ZIP and no folder."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / self._name("tmp")]

    @staticmethod
    def _name(end: str) -> str:
        return f".omrwatchd-doctor-{os.getpid()}.{end}"

    def make(self) -> float:
        """Write it; its time of change (seconds since the epoch), by the clock of whoever holds the disk."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._paths[0], flags, 0o600)
        try:
            os.write(descriptor, b"omrwatchd doctor\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return os.stat(self._paths[0]).st_mtime

    def move(self, folder: Path) -> None:
        self._paths.append(folder / self._name("moved.tmp"))
        os.rename(self._paths[0], self._paths[-1])

    def remove(self) -> None:
        """Raises OSError when it can't be removed; what never was is no error."""
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _try_move(source: Path, target: Path) -> float:
    """Make a file, move it, remove it; its time of change. Raises OSError."""
    trial = _Trial(source)
    try:
        changed = trial.make()
        trial.move(target)
    except OSError:
        with contextlib.suppress(OSError):
            trial.remove()
        raise
    trial.remove()
    return changed


def _drop_folder(watch: Watch, clock: Clock) -> Iterator[Finding]:
    began = clock.now()
    try:
        changed = _try_move(watch.drop, watch.drop)
    except OSError as error:
        summary = f"A file can't be made, renamed and removed in watch.drop {watch.drop}: {reason_of(error)}."
        yield fail(f"drop:{watch.name}", summary, _RIGHTS)
        return
    yield ok(f"drop:{watch.name}", f"Files can be made, renamed and removed in {watch.drop}.")
    yield share_clock(watch, changed, began, clock.now())


def share_clock(watch: Watch, changed: float, began: float, ended: float) -> Finding:
    """Compare a new file's time with ours; all are seconds since the epoch."""
    skew = changed - min(max(changed, began), ended)
    name = f"share_clock:{watch.name}"
    if abs(skew) < SKEW_SECONDS:
        return ok(name, f"The clock of what holds {watch.drop} agrees with this machine's.")
    side = "ahead of" if skew > 0 else "behind"
    return warn(
        name,
        f"The clock of what holds {watch.drop} is {abs(skew):.0f} s {side} this machine's.",
        "Have both set their clocks by NTP: files are queued in the order of their times.",
    )


def target_folder(watch: Watch, kind: str, folder: Path) -> Finding:
    """Whether a file moves from the drop folder to ``done`` or ``failed``, and whether by a mere rename."""
    name, what = f"{kind}:{watch.name}", f"watch.{kind} {folder}"
    place = nearest(folder)
    if not place.is_dir():
        return fail(name, f"{what} can't be made: {place} is no folder.", "Check the path.")
    words = "" if place == folder else f" ({folder.name} will be made in {place})"
    try:
        _try_move(watch.drop, place)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return _other_mount(name, what, watch.drop, place)
        return fail(name, f"A file can't be moved from {watch.drop} to {what}: {reason_of(error)}.", _RIGHTS)
    return ok(name, f"Files move from {watch.drop} to {folder} at once{words}.")


def _other_mount(name: str, what: str, drop: Path, place: Path) -> Finding:
    try:
        _try_move(place, place)
    except OSError as error:
        return fail(name, f"A file can't be made in {what}: {reason_of(error)}.", _RIGHTS)
    same = os.stat(drop).st_dev == os.stat(place).st_dev
    return warn(
        name,
        f"{what} can't be reached from {drop} by a rename.",
        f"{_ONE_MOUNT if same else ''} {_COPIES}".strip(),
    )


# what it is mounted from


def unmounted(watch: Watch, mount: Mount | None, fstab: str) -> Iterator[Finding]:
    """A share that fstab(5) puts at or above the drop folder, and that is not there now."""
    folder = os.path.realpath(watch.drop)
    for line in fstab.splitlines():
        words = line.split("#")[0].split()
        if len(words) < 3 or not words[1].startswith("/"):
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[1])
        inside = Path(folder).is_relative_to(point)
        if inside and mount is not None and len(os.fsencode(point)) > len(mount.point):
            yield fail(
                f"mounted:{watch.name}",
                f"{point}, which /etc/fstab lists, is not mounted: {watch.drop} is the bare folder below it.",
                f"Mount it (mount {point}), and have the service wait for it (RequiresMountsFor=).",
            )


def noticing(watch: Watch, mount: Mount | None) -> Finding:
    """What the kind of file system means for how soon a file is noticed."""
    name = f"mount:{watch.name}"
    if mount is None:
        return warn(
            name,
            f"The kind of file system of {watch.drop} can't be told.",
            'Set watch.observer = "rescan" where other machines write to it.',
        )
    where = f"{watch.drop} is on {mount.fs_type}, mounted at {os.fsdecode(mount.point)}"
    hints = watch.observer == "hints" or (watch.observer == "auto" and mount.gives_hints)
    rescan = watch.rescan_seconds or (RESCAN_SECONDS if hints else RESCAN_SECONDS_WITHOUT_HINTS)
    settle = watch.settle_seconds or (SETTLE_SECONDS_NETWORK if mount.is_network else SETTLE_SECONDS)
    finished = f"it counts as finished when it has not changed for {settle:g} s"
    if hints and not mount.gives_hints:
        return warn(
            name,
            f"{where}, which does not tell of other machines' files: they are seen after up to {rescan:g} s.",
            'Set watch.observer = "auto": the folder is looked at more often then.',
        )
    if hints:
        return ok(name, f"{where}: a new file is noticed at once, and {finished}.")
    return ok(name, f"{where}: it is looked at every {rescan:g} s; {finished}.")
