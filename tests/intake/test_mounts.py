from __future__ import annotations

import pytest

from omrwatchd.intake.mounts import mount_of

TABLE = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv/scan\040share rw - cifs //nas/scans rw
31 22 0:41 / /srv/export rw - nfs4 nas:/export rw
32 31 0:42 / /srv/export rw - tmpfs tmpfs rw
33 22 0:43 / /mnt/ssh rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "fs_type", "hints", "network"),
    [
        (b"/srv/drop", "ext4", True, False),
        (b"/srv/scan share/drop", "cifs", False, True),
        (b"/srv/export/x", "tmpfs", True, False),
        (b"/srv/exported", "ext4", True, False),
        (b"/mnt/ssh", "fuse.sshfs", False, True),
    ],
)
def test_mount_table_decides(path: bytes, fs_type: str, hints: bool, network: bool) -> None:
    """The longest mount point holds a path, the latest of two on one point; names may hold spaces."""
    mount = mount_of(path, TABLE)
    assert mount is not None
    assert (mount.fs_type, mount.gives_hints, mount.is_network) == (fs_type, hints, network)


def test_own_table_is_read() -> None:
    """The machine's own table is understood."""
    assert mount_of(b"/proc") is not None
    assert mount_of(b"/proc").fs_type == "proc"  # type: ignore[union-attr]


def test_broken_table_is_no_error() -> None:
    """Lines that make no sense are passed over."""
    assert mount_of(b"/srv", b"nonsense\n1 2 3 - \n") is None
