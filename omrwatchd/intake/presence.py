"""Whether a drop folder is there and is the one we knew: an unmounted share is no empty folder."""

from __future__ import annotations

import os

from omrwatchd.intake.mounts import Mount, is_gone, mount_of
from omrwatchd.intake.scan import FolderLost

LONGEST_RETRY_SECONDS = 60.0
_DOUBLINGS = 6  # 2 s, 4 s, … 60 s; a share may be away for weeks


class Presence:
    """What is known of the place a drop folder is at."""

    def __init__(self, folder: bytes) -> None:
        self._folder = folder
        self._tries = 0
        self.mount: Mount | None = mount_of(folder)
        """The mount that holds the folder; the last one known while the folder is lost."""

    @property
    def lost(self) -> bool:
        return self._tries > 0

    def check(self) -> None:
        """To be asked after a scan, before what it found is believed.

        A mount that comes on top (the share that was late at boot) or in the same place (a remount, whose
        device number is a new one) is how the folder is now. One that went away leaves its bare mount point.

        Raises:
            FolderLost: the file system that held the folder is not mounted any more.
        """
        now = mount_of(self._folder)
        if self.mount is not None and now is not None and is_gone(self.mount, now, self._folder):
            raise FolderLost(f"what was mounted at {os.fsdecode(self.mount.point)!r} is not mounted any more")
        self.mount = now or self.mount

    def why_lost(self) -> str | None:
        """In words, when the folder is not there or not the one it was."""
        try:
            os.scandir(self._folder).close()
            self.check()
        except FolderLost as loss:
            return str(loss)
        except OSError as error:
            return error.strerror or str(error)
        return None

    def missed(self) -> float:
        """The folder is lost; the seconds until it should be looked for again."""
        self._tries += 1
        return min(LONGEST_RETRY_SECONDS, 2.0 ** min(self._tries, _DOUBLINGS))

    def seen(self) -> bool:
        """The folder is there; True when it was lost until now."""
        was_lost, self._tries = self.lost, 0
        return was_lost
