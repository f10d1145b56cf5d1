"""Real mounts for tests that run as root: a share is a folder bound to its mount point."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd.intake.mounts import MOUNTINFO

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, timeout=30)


def unmount(point: Path) -> None:
    """As when a server goes away: at once, whoever still has files of it open."""
    subprocess.run(["umount", "--lazy", str(point)], check=True, timeout=30)


@contextlib.contextmanager
def unmounted_at_the_end(point: Path) -> Iterator[None]:
    """However often something was mounted there."""
    try:
        yield
    finally:
        while any(line.split()[4] == str(point) for line in MOUNTINFO.read_text().splitlines()):
            unmount(point)  # ismount(3) sees no bind mount of the same file system
