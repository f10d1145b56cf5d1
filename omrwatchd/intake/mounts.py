"""Which file system a folder is on, and whether it tells what others write (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")  # stays readable under systemd's ProcSubset=pid
_HINTING = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "f2fs",
        "zfs",
        "bcachefs",
        "tmpfs",
        "ramfs",
        "overlay",
        "jfs",
        "reiserfs",
    }
)
_NETWORK = frozenset(
    {
        "cifs",
        "smb3",
        "smbfs",
        "nfs",
        "nfs4",
        "9p",
        "virtiofs",
        "ceph",
        "glusterfs",
        "afs",
        "ncpfs",
        "vboxsf",
        "prl_fs",
    }
)


@dataclass(frozen=True, slots=True)
class Mount:
    fs_type: str
    device: str
    """Major and minor number, e.g. ``8:1``."""
    point: bytes

    @property
    def is_network(self) -> bool:
        """Another host may write to it; fuse counts, for it may be anything behind."""
        return self.fs_type in _NETWORK or self.fs_type.startswith("fuse")

    @property
    def gives_hints(self) -> bool:
        """inotify sees every write to it: only where all writers are on this machine."""
        return self.fs_type in _HINTING


def mount_of(folder: bytes, mountinfo: bytes | None = None) -> Mount | None:
    """The mount that holds ``folder``; None when the table can't be read."""
    if mountinfo is None:
        try:
            mountinfo = MOUNTINFO.read_bytes()
        except OSError:
            return None
    mounts = [mount for line in mountinfo.splitlines() if (mount := _parse(line)) is not None]
    named = _best(mounts, folder)
    if named is not None and named.is_network:
        return named  # to follow links on a share that hangs would hang
    return _best(mounts, os.path.realpath(folder))


def _best(mounts: list[Mount], path: bytes) -> Mount | None:
    best: Mount | None = None
    for mount in mounts:
        # a later line of the same point is mounted over the earlier one
        if _holds(mount.point, path) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_gone(known: Mount, now: Mount, folder: bytes) -> bool:
    """Whether ``known``, which held ``folder``, is not mounted any more, ``now`` being what holds it."""
    return len(now.point) < len(known.point) and _holds(known.point, os.path.realpath(folder))


def _parse(line: bytes) -> Mount | None:
    fields, separator, rest = line.partition(b" - ")
    words, kind = fields.split(), rest.split()
    if not separator or len(words) < 5 or not kind:
        return None
    point = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), words[4])
    return Mount(kind[0].decode("ascii", "replace"), words[2].decode("ascii", "replace"), point)


def _holds(point: bytes, path: bytes) -> bool:
    return path == point or path.startswith(point.rstrip(b"/") + b"/")
