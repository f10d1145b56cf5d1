"""From the drop folder to done/ or failed/: planned, moved, confirmed; never overwriting."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime

from omrwatchd.clock import Clock
from omrwatchd.delivery.opening import holds
from omrwatchd.model import Job, Status
from omrwatchd.queue.store import Store
from omrwatchd.settings import Watch
from omrwatchd.sheets.companions import companions_of

NAME_MAX = 255
"""Bytes of a file name (limits.h)."""
ERROR_SUFFIX = b".error.txt"
COPY_BLOCK = 8 * 1024 * 1024
"""Bytes; after each a copy across file systems gives a sign of life."""

Sign = Callable[[], None]
Away = Callable[[str], str | None]
"""Why the drop folder of a watch (by its name) can't be trusted now; None when it is there."""


class FilingDelayed(Exception):
    """The file could not be moved now; nothing is lost, it is tried again."""


class Filing:
    """Moves files whose jobs have ended."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        watch_named: Callable[[str], Watch | None],
        away: Away = lambda _watch: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._watch_named = watch_named
        self._away = away
        self.sign: Sign = _nobody_listens
        """Called in the middle of long copies: whoever files is at work, not stuck."""

    def file(self, job: Job, *, delivered: bool) -> bytes:
        """Bring the file where it belongs and record it; the path where it is then.

        Raises:
            FilingDelayed: with the reason, in words.
        """
        try:
            target = self._place(job, delivered=delivered)
            self._bring_companions(job, target)
            if delivered:
                _remove_error_text(job.path)
            else:
                write_error_text(job, target, self._clock.now())
        except OSError as error:
            where = os.fsdecode(error.filename) if error.filename else job.name
            raise FilingDelayed(f"{where}: {error.strerror or error}") from error
        self._store.filed(job, target)
        return target

    def _place(self, job: Job, *, delivered: bool) -> bytes:
        if not _is_the_file(job, job.path):
            if job.filing_target is not None and _is_the_file(job, job.filing_target):
                return job.filing_target  # moved already, before we could record it
            if (reason := self._away(job.watch)) is not None:
                raise FilingDelayed(f"{os.fsdecode(os.path.dirname(job.path))}: {reason}")
            return job.path  # gone, or another file by now: that one is not ours to move
        folder = self._folder(job, delivered=delivered)
        if os.path.dirname(job.path) == folder:
            return job.path
        os.makedirs(folder, mode=0o770, exist_ok=True)
        target = self._reserve(folder, job, delivered=delivered)
        try:
            _move(job.path, target, self.sign)
        except OSError:
            _give_up_reservation(job.path, target)
            raise
        return target

    def _reserve(self, folder: bytes, job: Job, *, delivered: bool) -> bytes:
        """Make an empty file (or folder) of ours under a free name; a rename onto it overwrites nothing.

        The name is committed before it is taken: after a crash between the two it is known for ours.
        """
        name, now = os.path.basename(job.path), self._clock.now()
        own = name if delivered else _fitting(name)
        for candidate in (own, _renamed(name, job, now, 0), _renamed(name, job, now, 1)):
            target = os.path.join(folder, candidate)
            if os.path.lexists(target):
                if target == job.filing_target and _is_empty(target):
                    return target  # reserved by an earlier try of ours
                continue
            self._store.note(job.id, filing_target=target)
            with contextlib.suppress(FileExistsError):
                _make_empty(target, is_folder=_is_folder(job.path))
                return target
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.path.join(folder, name))

    def _bring_companions(self, job: Job, target: bytes) -> None:
        """Sidecar and marker follow their ZIP; those of a newer ZIP of the same name stay with it."""
        watch = self._watch_named(job.watch)
        if watch is None or target == job.path or os.path.lexists(job.path):
            return
        folder, name = os.path.split(target)
        old_name = os.path.basename(job.path)
        for companion in companions_of(job.path, watch.done_marker):
            wanted = os.path.basename(companion).replace(old_name, name)
            place = os.path.join(folder, wanted)
            if os.path.lexists(place):
                place = os.path.join(folder, _renamed(wanted, job, self._clock.now(), 0))
            _move(companion, place, self.sign)

    def _folder(self, job: Job, *, delivered: bool) -> bytes:
        watch = self._watch_named(job.watch)
        if watch is None:
            raise FilingDelayed(f"no [[watch]] is named {job.watch!r} any more")
        return os.fsencode(watch.done_folder if delivered else watch.failed_folder)


def _is_the_file(job: Job, path: bytes) -> bool:
    try:
        return holds(job, path)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make_empty(path: bytes, *, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(path, 0o770)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660))


def _is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _is_empty(path: bytes) -> bool:
    return not os.listdir(path) if _is_folder(path) else os.lstat(path).st_size == 0


def _give_up_reservation(source: bytes, target: bytes) -> None:
    """Take our empty place away again, if what was to come there still is where it was."""
    with contextlib.suppress(OSError):  # an empty place is used again by the next try
        if os.path.lexists(source) and _is_empty(target):
            shutil.rmtree(target) if _is_folder(target) else os.unlink(target)


def _renamed(name: bytes, job: Job, now: float, salt: int) -> bytes:
    """A name with a timestamp and a short hash before its suffix."""
    when = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S").encode()
    digest = hashlib.sha256(f"{job.id}-{now}-{salt}".encode()).hexdigest()[:6].encode()
    stem, suffix = os.path.splitext(name)
    return _fitting(stem, b"." + when + b"-" + digest + suffix)


def _fitting(stem: bytes, end: bytes = b"") -> bytes:
    """Shortened where needed, so that the error text beside it has a name as well."""
    if not end:
        stem, end = os.path.splitext(stem)
    return _cut(stem, NAME_MAX - len(end) - len(ERROR_SUFFIX)) + end


def _cut(name: bytes, length: int) -> bytes:
    """At most ``length`` bytes of it, and no half of a UTF-8 character at the end."""
    while length < len(name) and length > 0 and name[length] & 0xC0 == 0x80:
        length -= 1
    return name[:length]


def _nobody_listens() -> None:
    pass


def _move(source: bytes, target: bytes, sign: Sign) -> None:
    """Rename; across file systems copy, fsync, verify, rename, unlink."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, target, sign)
        shutil.rmtree(source) if _is_folder(source) else os.unlink(source)
    for folder in {os.path.dirname(source), os.path.dirname(target)}:
        _sync_folder(folder)


def _copy_over(source: bytes, target: bytes, sign: Sign) -> None:
    folder, name = os.path.split(target)
    copy = os.path.join(folder, b"." + name[: NAME_MAX - 10] + b".copying")
    try:
        _copy_folder(source, copy, sign) if _is_folder(source) else _copy_file(source, copy, sign)
        os.rename(copy, target)
    except OSError:
        if os.path.lexists(copy):
            shutil.rmtree(copy) if _is_folder(copy) else os.unlink(copy)
        raise
    _sync_folder(folder)


def _copy_folder(source: bytes, copy: bytes, sign: Sign) -> None:
    """A folder of pictures with all that lies in it."""
    if os.path.lexists(copy):
        shutil.rmtree(copy)  # of a try that a crash ended
    os.mkdir(copy, 0o770)
    for name in os.listdir(source):
        below, copied = os.path.join(source, name), os.path.join(copy, name)
        _copy_folder(below, copied, sign) if _is_folder(below) else _copy_file(below, copied, sign)
    _sync_folder(copy)


def _copy_file(source: bytes, copy: bytes, sign: Sign) -> None:
    """Copied, on disk, and compared byte by byte."""
    if os.path.islink(source):
        shutil.copyfile(source, copy, follow_symlinks=False)
        shutil.copystat(source, copy, follow_symlinks=False)
        return
    with open(source, "rb") as old, open(copy, "wb") as new:
        while block := old.read(COPY_BLOCK):
            new.write(block)
            sign()
        new.flush()
        os.fsync(new.fileno())
    shutil.copystat(source, copy)
    if not _same(source, copy, sign):
        raise OSError(errno.EIO, "the copy differs from the original", copy)


def _same(source: bytes, copy: bytes, sign: Sign) -> bool:
    with open(source, "rb") as one, open(copy, "rb") as other:
        while (block := one.read(COPY_BLOCK)) == other.read(COPY_BLOCK):
            if not block:
                return True
            sign()
    return False


def _sync_folder(folder: bytes) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def _remove_error_text(path: bytes) -> None:
    """Our own text about a failure that a retry has mended."""
    if len(os.path.basename(path) + ERROR_SUFFIX) > NAME_MAX:
        return  # nothing can have that name: such a file was filed under a shorter one
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ERROR_SUFFIX)


def write_error_text(job: Job, target: bytes, now: float) -> None:
    """`NAME.zip.error.txt` beside a failed file: what, why, what to do, the id."""
    if job.problem is None or not os.path.isdir(os.path.dirname(target)) or not os.path.lexists(target):
        return
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    headline = "was cancelled" if job.status is Status.ABORTED else "was not delivered"
    lines = [f"{job.name} {headline}.", "", job.problem.summary]
    if job.problem.advice:
        lines += ["", f"What to do: {job.problem.advice}"]
    if job.batch_ids:
        lines += ["", f"Already delivered as batch: {', '.join(job.batch_ids)}"]
    lines += ["", f"Id: {job.id}   Code: {job.problem.code}   Time: {when}", ""]
    path = target + ERROR_SUFFIX
    partial = os.path.join(os.path.dirname(path), b"." + _cut(os.path.basename(path), NAME_MAX - 5) + b".tmp")
    with open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
