from __future__ import annotations

from pathlib import Path

import pytest

from omrwatchd.intake import presence
from omrwatchd.intake.mounts import Mount
from omrwatchd.intake.presence import Presence
from omrwatchd.intake.scan import FolderLost

FOLDER = b"/srv/scans/drop"
ROOT = Mount("ext4", "8:1", b"/")
SHARE = Mount("cifs", "0:40", b"/srv/scans")


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Mount | None]:
    """What holds the folder: the last item."""
    table: list[Mount | None] = [ROOT]
    monkeypatch.setattr(presence, "mount_of", lambda _folder: table[-1])
    return table


def test_unmounted_share_is_lost_however_often_it_is_looked_for(mounted: list[Mount | None]) -> None:
    """The bare mount point never becomes the folder; the share's return ends it."""
    mounted.append(SHARE)
    place = Presence(FOLDER)
    mounted.append(ROOT)
    for _ in range(10):
        with pytest.raises(FolderLost, match="not mounted any more"):
            place.check(barren=False)
        place.missed("away")
    mounted.append(SHARE)
    place.check(barren=False)
    assert place.seen()


@pytest.mark.parametrize(
    "now", [SHARE, Mount("ext4", "8:2", b"/srv"), Mount("xfs", "8:9", b"/"), None], ids=repr
)
def test_mount_on_top_or_in_the_same_place_is_the_folder_now(
    mounted: list[Mount | None], now: Mount | None
) -> None:
    """A share that is late at boot, another disk: taken as it is. An unreadable table proves nothing."""
    place = Presence(FOLDER)
    mounted.append(now)
    place.check(barren=False)
    assert place.mount == (now or ROOT)


def test_remounted_share_has_a_new_device_number_and_is_the_same(mounted: list[Mount | None]) -> None:
    """Network file systems get their numbers anew at each mount."""
    mounted.append(SHARE)
    place = Presence(FOLDER)
    mounted.append(Mount("cifs", "0:77", b"/srv/scans"))
    place.check(barren=False)


def test_link_that_points_elsewhere_now_is_followed(tmp_path: Path, mounted: list[Mount | None]) -> None:
    """The drop folder may be a symbolic link that an administrator moved off a share."""
    (tmp_path / "local").mkdir()
    link = tmp_path / "drop"
    link.symlink_to("/srv/scans/drop")
    mounted.append(SHARE)
    place = Presence(bytes(link))
    link.unlink()
    link.symlink_to(tmp_path / "local")
    mounted.append(ROOT)
    place.check(barren=False)
    assert place.mount == ROOT


def test_pauses_between_looks_grow_to_a_minute(mounted: list[Mount | None]) -> None:
    """2 s at first; a share that is away for weeks is still looked for every minute."""
    place = Presence(FOLDER)
    pauses = [place.missed("away") for _ in range(5000)]
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert set(pauses[6:]) == {60.0}
    assert place.lost
    assert place.seen()
    assert not place.seen()
    assert place.missed("away") == 2.0
