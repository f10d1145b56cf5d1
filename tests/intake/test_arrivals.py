"""Every way a file comes in, noticed by rescans alone and by hints alone."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from omrwatchd.model import Status
from tests.intake.conftest import Office, OpenOffice
from tests.waiting import until
from tests.zips import write_zip

SETTLE = 0.4

# the daemon hears events and rescans; each alone must do as well
MODES = {
    "events muted": {"observer": "rescan", "rescan_seconds": 0.3},
    "rescans slowed": {"observer": "hints", "rescan_seconds": 3600},
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())

Arrive = Callable[[Path, Path], dict[str, int]]
"""Makes files come into the drop folder (the first), from the second; the names and sizes to be queued."""


def pause(seconds: float) -> None:
    """The pace of a scanner."""
    threading.Event().wait(seconds)


def slow_writer_with_gaps(drop: Path, outside: Path) -> dict[str, int]:
    """One descriptor, pages with pauses between them."""
    whole = write_zip(outside / "whole", size=40_000).read_bytes()
    with (drop / "scan.zip").open("wb", buffering=0) as file:
        for start in range(0, len(whole), 10_000):
            file.write(whole[start : start + 10_000])
            pause(SETTLE * 0.6)
    return {"scan.zip": len(whole)}


def reopened_after_longer_than_the_settle_time(drop: Path, outside: Path) -> dict[str, int]:
    """Closed between the pages, for longer than a file must be still: only its missing end tells."""
    whole = write_zip(outside / "whole", size=40_000).read_bytes()
    for start in range(0, len(whole), 20_000):
        with (drop / "scan.zip").open("ab") as file:
            file.write(whole[start : start + 20_000])
        pause(SETTLE * 2)
    return {"scan.zip": len(whole)}


def program_that_updates_the_zip_in_place(drop: Path, outside: Path) -> dict[str, int]:
    """After each page the ZIP is whole, and it grows on within the settle time."""
    path = drop / "scan.zip"
    for page in range(4):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{page}.jpg", os.urandom(500))
        pause(SETTLE * 0.4)
    return {"scan.zip": path.stat().st_size}


def hard_link(drop: Path, outside: Path) -> dict[str, int]:
    path = write_zip(outside / "there.zip")
    os.link(path, drop / "scan.zip")
    return {"scan.zip": path.stat().st_size}


def rename_from_outside(drop: Path, outside: Path) -> dict[str, int]:
    write_zip(outside / "there.zip").rename(drop / "scan.zip")
    return {"scan.zip": (drop / "scan.zip").stat().st_size}


def rename_from_a_temporary_name(drop: Path, _outside: Path) -> dict[str, int]:
    write_zip(drop / "scan.zip.part").rename(drop / "scan.zip")
    return {"scan.zip": (drop / "scan.zip").stat().st_size}


def folder_moved_in(drop: Path, outside: Path) -> dict[str, int]:
    (outside / "room").mkdir()
    path = write_zip(outside / "room" / "scan.zip")
    size = path.stat().st_size
    (outside / "room").rename(drop / "room")
    return {"scan.zip": size}


def new_folder_with_a_file_at_once(drop: Path, _outside: Path) -> dict[str, int]:
    """Written before anybody could watch the new folder."""
    (drop / "a" / "b").mkdir(parents=True)
    return {"scan.zip": write_zip(drop / "a" / "b" / "scan.zip").stat().st_size}


def beside_a_fifo_and_a_symlink(drop: Path, outside: Path) -> dict[str, int]:
    """Neither is opened, followed, queued or moved."""
    os.mkfifo(drop / "fifo.zip")
    (drop / "link.zip").symlink_to(write_zip(outside / "secret.zip"))
    (drop / "folder.zip").mkdir()
    return {"scan.zip": write_zip(drop / "scan.zip").stat().st_size}


def names_that_are_no_text(drop: Path, outside: Path) -> dict[str, int]:
    shown = {}
    for name in (
        b"Pr\xfcf.zip",
        b"a\nb.zip",
        b"\"'<&>.zip",
        b"x" * 251 + b".zip",
        "Prüfung äöü.ZIP".encode(),
    ):
        path = write_zip(outside / "there.zip", seed=len(shown))
        clean = name.replace(b"\n", b"\\n").decode("utf-8", "backslashreplace")
        shown[clean] = path.stat().st_size
        os.rename(path, os.path.join(os.fsencode(drop), name))
    return shown


def mtime_in_the_future(drop: Path, outside: Path) -> dict[str, int]:
    """A scanner whose clock is years ahead."""
    path = write_zip(outside / "there.zip")
    os.utime(path, ns=(2**62, 2**62))
    path.rename(drop / "scan.zip")
    return {"scan.zip": path.stat().st_size if path.exists() else (drop / "scan.zip").stat().st_size}


def sparse_file_of_the_full_size_first(drop: Path, outside: Path) -> dict[str, int]:
    """As Samba does for a Windows client: the size at once, the bytes later, and a pause between them."""
    whole = write_zip(outside / "whole", size=40_000).read_bytes()
    with (drop / "scan.zip").open("wb", buffering=0) as file:
        file.truncate(len(whole))
        pause(SETTLE * 2)
        file.write(whole)
    return {"scan.zip": len(whole)}


def two_files_of_one_name_in_a_row(drop: Path, outside: Path) -> dict[str, int]:
    """The second in the place of the first while that still settles: only the second is there to be sent."""
    write_zip(drop / "scan.zip", sheets=2)
    pause(SETTLE * 0.5)
    second = write_zip(outside / "there.zip", sheets=5)
    size = second.stat().st_size
    second.rename(drop / "scan.zip")
    return {"scan.zip": size}


WAYS: tuple[Arrive, ...] = (
    slow_writer_with_gaps,
    reopened_after_longer_than_the_settle_time,
    program_that_updates_the_zip_in_place,
    hard_link,
    rename_from_outside,
    rename_from_a_temporary_name,
    folder_moved_in,
    new_folder_with_a_file_at_once,
    beside_a_fifo_and_a_symlink,
    names_that_are_no_text,
    mtime_in_the_future,
    sparse_file_of_the_full_size_first,
    two_files_of_one_name_in_a_row,
)


def queued(office: Office) -> dict[str, int]:
    assert not office.deaths, office.deaths
    return {job.name: job.identity.size for job in office.jobs()}


@modes
@pytest.mark.parametrize("arrive", WAYS, ids=lambda way: way.__name__)
def test_each_way_in_is_noticed_and_queued_whole(
    open_office: OpenOffice, tmp_path: Path, arrive: Arrive, mode: dict[str, object]
) -> None:
    """With either half of noticing alone: every finished file is queued once, with its final size."""
    outside = tmp_path / "outside"
    outside.mkdir()
    how = {"recursive": True, "settle_seconds": SETTLE, "give_up_seconds": 60}
    with open_office(**how, **mode) as office:
        until(lambda: office.intake.away("default", True) is None)  # all of it happens while the daemon looks
        wanted = arrive(office.drop, outside)
        until(lambda: queued(office) == wanted, what=f"{wanted} queued")
        assert set(office.statuses().values()) == {Status.PENDING}
        assert len(office.jobs()) == len(wanted)


@modes
def test_two_files_of_one_name_are_two_jobs_when_the_first_is_away_already(
    open_office: OpenOffice, tmp_path: Path, mode: dict[str, object]
) -> None:
    """The first is queued, delivered and filed; the same name with other content is a new file."""
    with open_office(settle_seconds=SETTLE, **mode) as office:
        write_zip(office.drop / "scan.zip", sheets=2)
        first = office.queued("scan.zip")
        (tmp_path / "done").mkdir()
        (office.drop / "scan.zip").rename(tmp_path / "done" / "scan.zip")
        claimed = office.store.claim("w")
        assert claimed is not None
        office.store.move(first.id, claimed.status, Status.COMPLETED, filed_at=1.0, path=b"/done/scan.zip")
        write_zip(office.drop / "scan.zip", sheets=5)
        until(lambda: [job.sheets for job in office.jobs()] == [2, 5], what="both jobs")


@modes
def test_file_that_is_removed_or_replaced_while_it_waits(
    open_office: OpenOffice, tmp_path: Path, mode: dict[str, object]
) -> None:
    """Removed: its job ends and says so. Replaced: it settles anew, and the old size is never kept."""
    with open_office(settle_seconds=SETTLE, **mode) as office:
        write_zip(office.drop / "removed.zip")
        write_zip(office.drop / "replaced.zip", sheets=2)
        office.queued("removed.zip")
        first = office.queued("replaced.zip")
        (office.drop / "removed.zip").unlink()
        newer = write_zip(tmp_path / "newer.zip", sheets=5)
        size = newer.stat().st_size
        newer.rename(office.drop / "replaced.zip")  # the hint that tells of this one tells of both
        until(lambda: office.statuses().get("removed.zip") is Status.ABORTED, what="the end of removed.zip")
        until(lambda: office.statuses().get("replaced.zip") is Status.PENDING, what="replaced.zip anew")
        job = office.queued("replaced.zip")
        assert (job.identity.size, job.sheets) == (size, 5)
        assert job.id != first.id
