"""Drop folders that are mounted, unmounted and mounted over, with real mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.model import Status
from omrwatchd.settings import Watch
from tests.intake.conftest import Office, OpenOffice
from tests.mounts import mount, needs_root, unmount, unmounted_at_the_end
from tests.waiting import until
from tests.zips import write_zip

pytestmark = needs_root

# a folder that is away is looked for every 2 s at first
QUICK = {"observer": "rescan", "rescan_seconds": 0.3}


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder that the share's server has."""
    (tmp_path / "server").mkdir()
    return tmp_path / "server"


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Path]:
    """A mount point, with nothing mounted on it yet."""
    place = tmp_path / "drop"
    place.mkdir()
    with unmounted_at_the_end(place):
        yield place


def told(office: Office, kind: type[events.Event]) -> int:
    return sum(isinstance(event, kind) for event in office.events)


def test_unmounted_share_keeps_its_queued_files(
    open_office: OpenOffice, server: Path, drop: Path, tmp_path: Path
) -> None:
    """Its bare mount point is told once and is no empty folder; the other watch goes on; it comes back."""
    (tmp_path / "second").mkdir()
    second = Watch(name="second", drop=tmp_path / "second", settle_seconds=0.4, status_board=False)
    mount("--bind", server, drop)
    with open_office(second, **QUICK) as office:
        write_zip(drop / "scan.zip")
        office.queued("scan.zip")
        unmount(drop)
        office.await_event(events.DropFolderLost)
        assert office.intake.away("default", True) is not None
        assert office.intake.away("second", True) is None
        write_zip(tmp_path / "second" / "other.zip")
        office.queued("other.zip")
        mount("--bind", server, drop)
        office.await_event(events.DropFolderBack)
        write_zip(drop / "late.zip")
        office.queued("late.zip")
        assert set(office.statuses().values()) == {Status.PENDING}
        assert told(office, events.DropFolderLost) == 1


def test_share_that_is_mounted_after_the_start_is_taken_up(
    open_office: OpenOffice, server: Path, drop: Path
) -> None:
    """A machine that boots before its file server: nothing waits yet, and the share's files are found."""
    with open_office(**QUICK) as office:
        until(lambda: office.intake.away("default", True) is None)
        write_zip(server / "scan.zip")
        mount("--bind", server, drop)
        office.queued("scan.zip")
        assert told(office, events.DropFolderRemounted) == 1


def test_start_before_the_share_is_mounted_forgets_no_queued_file(
    open_office: OpenOffice, server: Path, drop: Path
) -> None:
    """After a reboot the mount point is bare, and files of it wait in the queue: it is away, not empty."""
    mount("--bind", server, drop)
    with open_office(**QUICK) as office:
        write_zip(drop / "scan.zip")
        job = office.queued("scan.zip")
    unmount(drop)
    with open_office(**QUICK) as office:
        assert "not mounted" in office.await_event(events.DropFolderLost).reason
        mount("--bind", server, drop)
        office.await_event(events.DropFolderBack)
        until(lambda: office.intake.away("default", True) is None)
        assert [(j.id, j.status) for j in office.jobs()] == [(job.id, Status.PENDING)]


def test_empty_file_system_mounted_over_the_folder_hides_no_queued_file(
    open_office: OpenOffice, drop: Path
) -> None:
    """What waits is not taken for removed; when the other mount goes, the folder is there again."""
    with open_office(**QUICK) as office:
        write_zip(drop / "scan.zip")
        job = office.queued("scan.zip")
        mount("-t", "tmpfs", "-o", "size=1m", "none", drop)
        office.await_event(events.DropFolderLost)
        unmount(drop)
        office.await_event(events.DropFolderBack)
        assert [(j.id, j.status) for j in office.jobs()] == [(job.id, Status.PENDING)]


def test_hints_are_heard_again_after_a_remount(open_office: OpenOffice, server: Path, drop: Path) -> None:
    """inotify is silent about mounts: the old watch would hear of nothing any more."""
    mount("-t", "tmpfs", "-o", "size=4m", "none", drop)
    with open_office(observer="hints", rescan_seconds=1.0) as office:
        write_zip(drop / "first.zip")
        office.queued("first.zip")
        unmount(drop)
        office.await_event(events.DropFolderLost)
        mount("-t", "tmpfs", "-o", "size=4m", "none", drop)
        (drop / "something").touch()
        office.await_event(events.DropFolderBack)
        heard = office.intake._hints.hears
        until(lambda: heard(bytes(drop)), what="a watch on the new file system")
        write_zip(drop / "second.zip")
        office.queued("second.zip")


def test_removed_files_end_their_jobs_in_an_emptied_folder(open_office: OpenOffice, drop: Path) -> None:
    """Where no mount has changed, an empty folder is what somebody has emptied."""
    with open_office(**QUICK) as office:
        write_zip(drop / "scan.zip")
        office.queued("scan.zip")
        (drop / "scan.zip").unlink()
        until(lambda: office.statuses()["scan.zip"] is Status.ABORTED)
