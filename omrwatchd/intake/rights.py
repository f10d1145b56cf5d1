"""Whether a folder can be worked in: asked before a start, and before a drop folder is first taken from."""

from __future__ import annotations

import os
from pathlib import Path

from omrwatchd.settings import Watch


def nearest(folder: Path) -> Path:
    """The folder, or the nearest existing one above it, in which it would be made.

    What can't be looked at counts as absent; Path.exists() raises there (a failing share, a private folder).
    """
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def may_write(folder: Path) -> bool:
    """Into a folder that is there: no on a file system that is mounted read-only, for root as well."""
    return os.access(folder, os.W_OK | os.X_OK)


def unwritable(watch: Watch) -> Path | None:
    """The first folder of a watch that nothing can be moved out of, or into."""
    folders = (watch.drop, watch.done_folder, watch.failed_folder)
    return next((folder for folder in folders if not may_write(nearest(folder))), None)
