from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.intake import scout
from omrwatchd.intake.mounts import MOUNTINFO
from omrwatchd.intake.scan import FolderLost, Sign
from omrwatchd.intake.scout import Scout
from omrwatchd.model import Status
from omrwatchd.settings import Watch
from tests.intake.conftest import OpenOffice
from tests.mounts import unmounted_at_the_end
from tests.waiting import until
from tests.zips import write_zip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scout, "SILENT_SECONDS", 0.3)


@pytest.fixture
def bindfs(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A file system of a process of its own at ``second``: when that is stopped, every call into it hangs."""
    if os.geteuid() != 0 or shutil.which("bindfs") is None:
        pytest.skip("needs bindfs, and root")
    server, place = tmp_path / "server", tmp_path / "second"
    server.mkdir()
    place.mkdir()
    uncached = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
    process = subprocess.Popen(["bindfs", "-f", "-o", uncached, server, place])
    with unmounted_at_the_end(place):
        try:
            until(lambda: str(place) in MOUNTINFO.read_text() or process.poll() is not None)
            if process.poll() is not None:
                pytest.skip("FUSE can't be used here")
            yield process
        finally:
            process.send_signal(signal.SIGCONT)  # nobody is left in a call that hangs
            process.terminate()
            process.wait(10)


def test_share_that_hangs_holds_up_no_other_folder(
    open_office: OpenOffice, tmp_path: Path, bindfs: subprocess.Popen[bytes]
) -> None:
    """A call into it does not return: it is told as lost, the other folder goes on, and it comes back."""
    place = tmp_path / "second"
    second = Watch(name="second", drop=place, settle_seconds=0.4, status_board=False, rescan_seconds=0.3)
    with open_office(second, observer="rescan", rescan_seconds=0.3) as office:
        write_zip(place / "before.zip")
        office.queued("before.zip")
        bindfs.send_signal(signal.SIGSTOP)
        lost = office.await_event(events.DropFolderLost)
        assert (lost.watch, "does not answer" in lost.reason) == ("second", True)
        assert office.intake.away("second", False) is not None
        assert office.intake.away("default", True) is None
        write_zip(office.drop / "other.zip")
        office.queued("other.zip")
        write_zip(tmp_path / "server" / "late.zip")
        bindfs.send_signal(signal.SIGCONT)
        office.await_event(events.DropFolderBack)
        office.queued("late.zip")
        assert set(office.statuses()) == {"before.zip", "other.zip", "late.zip"}
        assert set(office.statuses().values()) == {Status.PENDING}


def test_slow_listing_is_no_hanging_one() -> None:
    """As long as there is one entry more from time to time, it is waited for."""
    pace = threading.Event()

    def slowly(sign: Sign) -> str:
        for _ in range(10):
            pace.wait(0.1)
            sign()
        return "all of it"

    assert Scout(slowly, SystemClock()).look()[0] == "all of it"


def test_hanging_look_is_asked_for_again_without_waiting_and_made_once() -> None:
    """No thread is left behind for each try; what comes in the end counts from when it began."""
    answers = threading.Event()
    looks: list[int] = []

    def look(_sign: Sign) -> str:
        looks.append(1)
        answers.wait(30)
        return "late"

    errand = Scout(look, SystemClock())
    for _ in range(5):
        with pytest.raises(FolderLost, match="does not answer"):
            errand.look()
    hung = SystemClock().monotonic()
    answers.set()
    until(lambda: not any(thread.name == "scout" for thread in threading.enumerate()))
    found, began = errand.look()
    assert (found, len(looks)) == ("late", 1)
    assert began < hung


def test_loss_of_the_folder_goes_through() -> None:
    """What the look raises is raised to who asked for it."""

    def look(_sign: Sign) -> str:
        raise FolderLost("No such file or directory")

    with pytest.raises(FolderLost, match="No such file"):
        Scout(look, SystemClock()).look()
