"""Deleting one delivered file from done/, if it is the one that was filed there. Links are not followed."""

from __future__ import annotations

import os
import stat

from omrwatchd.delivery.opening import holds
from omrwatchd.model import Job, UploadType, file_time
from omrwatchd.settings import Watch
from omrwatchd.sheets.companions import companions_of


class NotOurs(Exception):
    """What lies at the path is not what was filed there; the reason, in words."""


class Vanished(Exception):
    """Nothing lies at the path."""

    def __init__(self, *, for_good: bool) -> None:
        """``for_good``: done/ is there, with other things in it; a share that is away looks empty."""
        super().__init__("it is gone")
        self.for_good = for_good


def prune(job: Job, watch: Watch) -> int:
    """Delete the job's file (or folder of pictures) and its companions; how many bytes that freed.

    Raises:
        Vanished: somebody else has taken it away.
        NotOurs: it was changed or replaced; nothing is deleted.
        OSError: it can't be deleted now; it may be tried again.
    """
    folder = os.open(os.path.dirname(job.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if job.metadata.upload_type is UploadType.IMAGES:
            return _prune_pictures(job, folder)
        _check(job, watch, folder)
        freed = _delete_companions(job, watch, folder)
        os.unlink(os.path.basename(job.path), dir_fd=folder)
        return freed + job.identity.size
    finally:
        os.close(folder)


def _check(job: Job, watch: Watch, folder: int) -> None:
    found = _found(job, folder)
    if not stat.S_ISREG(found.st_mode):
        raise NotOurs("something else has taken its place in done/")
    if (found.st_size, file_time(found.st_mtime_ns)) != (job.identity.size, job.identity.mtime_ns):
        raise NotOurs("it was changed after it was delivered")
    # a rename keeps the inode; a copy from another file system has a new one
    if _one_file_system(watch, folder) and found.st_ino != job.identity.inode:
        raise NotOurs("another file has taken its place in done/")


def _found(job: Job, folder: int) -> os.stat_result:
    try:
        return os.stat(os.path.basename(job.path), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise Vanished(for_good=bool(os.listdir(folder))) from None


def _one_file_system(watch: Watch, folder: int) -> bool:
    return os.stat(watch.drop).st_dev == os.fstat(folder).st_dev


def _delete_companions(job: Job, watch: Watch, folder: int) -> int:
    """Sidecar and marker that came along; one that was written to since then is somebody's."""
    freed = 0
    for companion in companions_of(job.path, watch.done_marker):
        name = os.path.basename(companion)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_mtime <= (job.filed_at or 0.0):
            os.unlink(name, dir_fd=folder)
            freed += found.st_size
    return freed


def _prune_pictures(job: Job, folder: int) -> int:
    """A folder with exactly what it was delivered with: `holds` compares every name in it.

    It is renamed first, so that a crash leaves nothing behind that looks like a changed delivery.
    """
    name, leaving = os.path.basename(job.path), b".omrwatchd-pruning-%d" % job.id
    try:
        found = _found(job, folder)
    except Vanished:
        if not _is_folder(leaving, folder):
            raise
    else:
        if not stat.S_ISDIR(found.st_mode):
            raise NotOurs("something else has taken its place in done/")
        if not holds(job, job.path):
            raise NotOurs("it was changed after it was delivered")
        os.rename(name, leaving, src_dir_fd=folder, dst_dir_fd=folder)
    _delete_folder(leaving, folder)
    return job.identity.size


def _is_folder(name: bytes, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _delete_folder(name: bytes, folder: int) -> None:
    """Not into its depth: a folder of pictures has no folders in it."""
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        for each in os.listdir(inner):
            os.unlink(each, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
