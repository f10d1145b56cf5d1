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
        self._known = False
        """Whether files, or our own board, were seen there under the present mount."""
        self.reason = ""
        """Why it is lost, while it is."""
        self._doubt: str | None = None
        """Why it may be lost, found between two scans."""
        self.mount: Mount | None = mount_of(folder)
        """The mount that holds the folder; the last one known while the folder is lost."""

    @property
    def lost(self) -> bool:
        return self._tries > 0

    def check(self, *, barren: bool) -> bool:
        """To be asked after a scan, before what it found is believed; whether it is another mount now.

        A mount that comes on top (the share that was late at boot) or in the same place (a remount, whose
        device number is a new one) is how the folder is now. One that went away leaves its bare mount point.
        After a start nothing tells a bare mount point but that it is ``barren``: nothing at all lies in it,
        although files of it wait in the queue.

        Raises:
            FolderLost: the file system that held the folder is not mounted, or not mounted any more.
        """
        self._doubt = None
        now = mount_of(self._folder)
        if self.mount is not None and now is not None and is_gone(self.mount, now, self._folder):
            raise FolderLost(_gone(self.mount))
        changed = now is not None and self.mount is not None and now != self.mount
        self._known = self._known and not changed
        if barren and not self._known:
            raise FolderLost("it is empty, but files of it wait in the queue: is its share not mounted?")
        self._known = True
        self.mount = now or self.mount
        return changed

    def away(self, *, look: bool) -> str | None:
        """Why nothing can be said about a file of it that is missing; asked by other threads, too.

        ``look``: look now (a share that hangs hangs the asker). What that finds holds until the next check.
        """
        if self.lost:
            return self.reason
        if not self._known:
            return "it has not been looked into yet"
        if look and self._doubt is None:
            self._doubt = self._looked_away()
        return self._doubt

    def _looked_away(self) -> str | None:
        now = mount_of(self._folder)
        if now is not None and now != self.mount:
            return "another file system is mounted there" if self.mount is None else _gone(self.mount)
        return None if os.path.isdir(self._folder) else "it is not there"

    def missed(self, reason: str) -> float:
        """The folder is lost; the seconds until it should be looked for again."""
        self.reason = reason
        self._tries += 1
        return min(LONGEST_RETRY_SECONDS, 2.0 ** min(self._tries, _DOUBLINGS))

    def seen(self) -> bool:
        """The folder is there; True when it was lost until now."""
        was_lost, self._tries = self.lost, 0
        return was_lost


def _gone(mount: Mount) -> str:
    return f"what was mounted at {os.fsdecode(mount.point)!r} is not mounted any more"
