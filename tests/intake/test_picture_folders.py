from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd import events
from omrwatchd.errors import Problem
from omrwatchd.intake.parts import FORM_BYTES, PICTURE_HEAD_BYTES, picture_parts
from omrwatchd.model import Status, UploadType
from omrwatchd.settings import MIB, Split
from omrwatchd.sheets.pictures import Picture
from tests.intake.conftest import Office, OpenOffice
from tests.intake.test_intake import HINTS_ALONE, RESCANS_ALONE
from tests.pictures import write_pictures
from tests.waiting import until

IMAGES = {"upload_type": "images", "task_id": "7"}
ways = pytest.mark.parametrize("way", [HINTS_ALONE, RESCANS_ALONE], ids=["hints alone", "rescans alone"])


@ways
def test_folder_is_queued_when_its_last_picture_is_written(
    open_office: OpenOffice, way: dict[str, object]
) -> None:
    """A scanner that saves picture after picture gets one job with all of them; other files do not count."""
    with open_office(**IMAGES, **way) as office:
        folder = write_pictures(office.drop / "room 12", ["a.jpg"])
        pause = threading.Event()
        for name in ("c.png", "b.TIF", "Thumbs.db", "d.pdf"):
            pause.wait(0.25)  # the scanner's own pace, below settle_seconds
            (folder / name).write_bytes(os.urandom(100))
        job = office.queued("room 12")
        assert (job.sheets, job.status, job.metadata.upload_type) == (4, Status.PENDING, UploadType.IMAGES)
        assert job.identity.size == 2_300


def test_folder_with_a_sidecar_takes_its_task_from_there(open_office: OpenOffice, tmp_path: Path) -> None:
    """NAME.toml beside the folder says where it belongs, and how many pictures there should be."""
    with open_office(upload_type="images") as office:
        (office.drop / "room.toml").write_text('task_id = "12"\nsheets = 2\n')
        write_pictures(tmp_path / "new", ["1.jpg", "2.jpg"]).rename(office.drop / "room")
        assert office.queued("room").metadata.task_id == "12"
        write_pictures(tmp_path / "less", ["1.jpg"]).rename(office.drop / "none")
        job = office.queued("none")
        assert job.problem is not None
        assert job.problem.code == "task_missing"


@pytest.mark.parametrize(
    ("code", "words"),
    [("no_sheets", "no pictures"), ("nested_folder", "holds a folder"), ("empty_file", "is empty")],
)
def test_folder_that_can_not_be_a_batch_is_refused_in_a_sentence(
    open_office: OpenOffice, tmp_path: Path, code: str, words: str
) -> None:
    """After give_up_seconds it goes to failed/ with what is wrong; it is never sent in part."""
    folder = write_pictures(tmp_path / "room", [] if code == "no_sheets" else ["1.jpg"])
    if code == "nested_folder":
        write_pictures(folder / "more", ["2.jpg"])
    elif code == "empty_file":
        (folder / "2.jpg").touch()
    with open_office(**IMAGES) as office:
        folder.rename(office.drop / "room")
        job = office.queued("room")
        assert job.problem is not None
        assert job.problem.code == code
        assert words in job.problem.summary
        assert office.await_event(events.FileRefused).code == code


def test_folder_is_waited_for_while_a_picture_is_open_or_unfinished(
    open_office: OpenOffice, tmp_path: Path
) -> None:
    """A picture under a temporary name, or held open by a writer, keeps the whole folder out."""
    folder = write_pictures(tmp_path / "room", ["1.jpg"])
    (folder / "2.jpg.part").write_bytes(b"half")
    with open_office(**IMAGES) as office, (folder / "1.jpg").open("ab"):
        folder.rename(office.drop / "room")
        _until_why(office, "room", "2.jpg.part in it is still being written")
        (office.drop / "room" / "2.jpg.part").rename(office.drop / "room" / "2.jpg")
        _until_why(office, "room", "a program still has it open for writing")


def _until_why(office: Office, name: str, why: str) -> None:
    until(lambda: office.why(name) == why, what=why)


def test_same_pictures_again_are_a_duplicate(open_office: OpenOffice, tmp_path: Path) -> None:
    """Known by names and contents, whatever the folder is called."""
    write_pictures(tmp_path / "one", ["1.jpg"]).rename(tmp_path / "copy")
    write_pictures(tmp_path / "one", ["1.jpg"])
    with open_office(**IMAGES) as office:
        (tmp_path / "one").rename(office.drop / "one")
        (tmp_path / "copy").rename(office.drop / "copy")
        prints = {office.queued("one").fingerprint, office.queued("copy").fingerprint}
        assert len(prints) == 1


SIZES = st.lists(st.integers(1, MIB - FORM_BYTES - 2 * PICTURE_HEAD_BYTES), min_size=1, max_size=60)


@given(SIZES, st.integers(0, 7))
def test_parts_hold_every_picture_once_in_order_within_the_limits(sizes: list[int], most: int) -> None:
    """Whatever the sizes, each batch fits one request and no batch is larger than max_sheets."""
    pictures = [Picture(b"p%05d.jpg" % index, size, 0) for index, size in enumerate(sizes)]
    parts = picture_parts("room", pictures, Split(max_sheets=most), MIB)
    assert [part.first_sheet for part in parts] == [0, *(part.stop_sheet for part in parts[:-1])]
    assert parts[-1].stop_sheet == len(sizes)
    for part in parts:
        assert 0 < part.sheets == part.stop_sheet - part.first_sheet <= (most or len(sizes))
        assert part.size == sum(sizes[part.first_sheet : part.stop_sheet]) <= MIB


def test_picture_above_the_limit_is_named() -> None:
    """One picture that no request can carry fails the folder with its name."""
    with pytest.raises(Problem, match=r"big\.jpg in room is larger"):
        picture_parts("room", [Picture(b"big.jpg", MIB, 0)], Split(), MIB)
