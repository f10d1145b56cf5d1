from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.inotify_c import InotifyFD

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.intake import loop
from omrwatchd.intake.admit import Admission, Outcome
from omrwatchd.intake.scan import Found
from omrwatchd.model import Status
from omrwatchd.queue.control import opened_control
from omrwatchd.queue.ledger import Ledger
from omrwatchd.settings import Watch
from tests.intake.conftest import OpenOffice
from tests.waiting import until
from tests.zips import write_zip

# the daemon hears events and rescans; each alone must do as well
HINTS_ALONE = {"observer": "hints", "rescan_seconds": 3600}
RESCANS_ALONE = {"observer": "rescan", "rescan_seconds": 0.3}
ways = pytest.mark.parametrize("way", [HINTS_ALONE, RESCANS_ALONE], ids=["hints alone", "rescans alone"])


@ways
def test_slow_writer_with_gaps_is_queued_once_with_its_whole_size(
    open_office: OpenOffice, tmp_path: Path, way: dict[str, object]
) -> None:
    """A scanner that closes and reopens the file between pages is waited for."""
    whole = write_zip(tmp_path / "whole", size=90_000).read_bytes()
    with open_office(**way) as office:
        pause = threading.Event()
        for start in range(0, len(whole), 30_000):
            with (office.drop / "scan.zip").open("ab") as file:
                file.write(whole[start : start + 30_000])
            pause.wait(0.25)  # the scanner's own pace, below settle_seconds
        job = office.queued("scan.zip")
        assert job.identity.size == len(whole)
        assert (job.sheets, job.status) == (3, Status.PENDING)
        assert job.fingerprint is not None


def test_sidecar_with_half_a_character_ends_nothing(open_office: OpenOffice) -> None:
    """Its file is refused with a sentence, and the next one is queued."""
    with open_office() as office:
        (office.drop / "a.zip.json").write_text(json.dumps({"notes": "half \ud800"}))
        write_zip(office.drop / "a.zip")
        write_zip(office.drop / "b.zip", size=4_000)
        assert office.queued("b.zip").status is Status.PENDING
        refused = office.queued("a.zip")
        assert refused.problem is not None
        assert "notes" in refused.problem.summary


@ways
def test_whatever_way_a_file_comes_in_it_is_noticed(
    open_office: OpenOffice, tmp_path: Path, way: dict[str, object]
) -> None:
    """A rename from outside, a hard link, a copy, a name in capitals."""
    with open_office(**way) as office:
        write_zip(tmp_path / "a").rename(office.drop / "renamed.zip")
        os.link(write_zip(tmp_path / "b"), office.drop / "linked.zip")
        write_zip(office.drop / "COPIED.ZIP")
        for name in ("renamed.zip", "linked.zip", "COPIED.ZIP"):
            office.queued(name)


@ways
def test_folder_moved_in_is_looked_into_when_recursive(
    open_office: OpenOffice, tmp_path: Path, way: dict[str, object]
) -> None:
    """Files in a folder that is moved in, and those written into it later, are queued."""
    (tmp_path / "room").mkdir()
    write_zip(tmp_path / "room" / "early.zip")
    with open_office(recursive=True, **way) as office:
        (tmp_path / "room").rename(office.drop / "room")
        office.queued("early.zip")
        if way is RESCANS_ALONE:  # events do not tell of it: that is why rescans are the truth
            write_zip(office.drop / "room" / "late.zip")
            office.queued("late.zip")


def test_what_is_no_file_or_has_a_temporary_name_is_left_alone(
    open_office: OpenOffice, tmp_path: Path
) -> None:
    """FIFO, symlink, folder, dot file, `.part`: none is queued, opened or moved; the good one is."""
    secret = write_zip(tmp_path / "secret")
    with open_office() as office:
        os.mkfifo(office.drop / "fifo.zip")
        (office.drop / "link.zip").symlink_to(secret)
        (office.drop / "folder.zip").mkdir()
        for name in (".hidden.zip", "scan.zip.part", "~scan.zip", "scan.tmp", "notes.txt"):
            write_zip(office.drop / name)
        before = sorted(os.listdir(office.drop))
        write_zip(office.drop / "good.zip")
        office.queued("good.zip")
        assert list(office.statuses()) == ["good.zip"]
        assert sorted(os.listdir(office.drop)) == sorted([*before, "good.zip"])


def test_names_are_bytes(open_office: OpenOffice, tmp_path: Path) -> None:
    """Latin-1, a line break, 255 bytes: stored as they are, shown as clean text."""
    names = [b"Pr\xfcf.zip", b"a\nb.zip", b"x" * 251 + b".zip"]
    with open_office() as office:
        for name in names:
            os.rename(write_zip(tmp_path / "one"), os.path.join(os.fsencode(office.drop), name))
        until(lambda: len(office.jobs()) == 3)
        assert {os.path.basename(job.path) for job in office.jobs()} == set(names)
        assert all(job.name.isprintable() for job in office.jobs())
        assert "Pr\\xfcf.zip" in office.statuses()


def test_file_with_an_mtime_in_the_future_is_queued(open_office: OpenOffice) -> None:
    """Another machine's clock keeps no exam back."""
    with open_office() as office:
        path = write_zip(office.drop / "scan.zip")
        os.utime(path, ns=(2**62, 2**62))
        office.queued("scan.zip")


def test_incomplete_zip_is_waited_for_and_then_refused(open_office: OpenOffice, tmp_path: Path) -> None:
    """A cut-off ZIP is shown as arriving, then given up with its reason; it stays where it is for filing."""
    whole = write_zip(tmp_path / "whole", size=50_000).read_bytes()
    with open_office(give_up_seconds=4) as office:
        (office.drop / "cut.zip").write_bytes(whole[:30_000])
        until(lambda: "not a complete ZIP" in office.why("cut.zip"))
        assert office.jobs() == []
        job = office.queued("cut.zip")
        assert job.status is Status.ERROR
        assert job.problem is not None
        assert job.problem.code == "not_a_zip"
        assert (office.drop / "cut.zip").exists()


def test_incomplete_zip_that_is_completed_in_time_is_queued(open_office: OpenOffice, tmp_path: Path) -> None:
    """The rest comes after a pause longer than the settle time: queued whole."""
    whole = write_zip(tmp_path / "whole", size=50_000).read_bytes()
    with open_office(give_up_seconds=60) as office:
        (office.drop / "slow.zip").write_bytes(whole[:30_000])
        until(lambda: "not a complete ZIP" in office.why("slow.zip"))
        with (office.drop / "slow.zip").open("ab") as file:
            file.write(whole[30_000:])
        assert office.queued("slow.zip").identity.size == len(whole)


def test_preallocated_file_is_no_whole_zip(open_office: OpenOffice) -> None:
    """Samba sets the full size first: a file of holes is not taken for finished."""
    with open_office() as office:
        with (office.drop / "sparse.zip").open("wb") as file:
            file.truncate(5_000_000)
        job = office.queued("sparse.zip")
        assert job.status is Status.ERROR


def test_file_open_in_a_writer_is_not_queued_before_it_is_closed(
    open_office: OpenOffice, tmp_path: Path
) -> None:
    """Whole and unchanged, but open for writing: the kernel says so, and it is waited for."""
    with open_office(give_up_seconds=60) as office:
        whole = write_zip(tmp_path / "whole").read_bytes()
        with (office.drop / "scan.zip").open("wb") as file:
            file.write(whole)
            file.flush()
            until(lambda: "open for writing" in office.why("scan.zip"))
        office.queued("scan.zip")


def test_empty_file_and_one_without_pictures_are_refused(open_office: OpenOffice) -> None:
    """Each has a reason of its own."""
    with open_office() as office:
        (office.drop / "empty.zip").touch()
        with zipfile.ZipFile(office.drop / "letters.zip", "w") as archive:
            archive.writestr("letter.txt", "Dear all")
        codes = {
            name: problem.code
            for name in ("empty.zip", "letters.zip")
            if (problem := office.queued(name).problem) is not None
        }
        assert codes == {"empty.zip": "empty_file", "letters.zip": "no_sheets"}


def test_full_queue_leaves_files_untouched_until_there_is_room(open_office: OpenOffice) -> None:
    """At most max_files wait, oldest first; the rest is shown as arriving and taken when there is room."""
    with open_office(queue={"max_files": 2}) as office:
        for number in range(4):
            path = write_zip(office.drop / f"scan-{number}.zip")
            os.utime(path, (1_000_000 + number, 1_000_000 + number))
        until(lambda: office.why("scan-3.zip") == "the queue is full")
        assert list(office.statuses()) == ["scan-0.zip", "scan-1.zip"]
        job = office.store.claim("w")
        assert job is not None
        office.queued("scan-2.zip")
        assert "scan-3.zip" not in office.statuses()


def test_drop_folder_that_vanishes_is_told_once_and_taken_up_again(open_office: OpenOffice) -> None:
    """A lost folder is no empty one: said once, the other watch goes on, and its return is noticed."""
    with open_office(rescan_seconds=0.3) as office:
        write_zip(office.drop / "before.zip")
        office.queued("before.zip")
        office.drop.rename(office.folder / "away")
        office.await_event(events.DropFolderLost)
        (office.folder / "away").rename(office.drop)
        office.await_event(events.DropFolderBack)
        write_zip(office.drop / "after.zip")
        office.queued("after.zip")
        assert sum(isinstance(event, events.DropFolderLost) for event in office.events) == 1


def test_folder_made_anew_is_heard_again(open_office: OpenOffice) -> None:
    """Events of a folder that was deleted and made again do arrive: the dead watch is replaced."""
    with open_office(observer="hints", rescan_seconds=1.0) as office:
        office.drop.rmdir()
        office.drop.mkdir()
        until(lambda: office.intake._hints.hears(os.fsencode(office.drop)))
        write_zip(office.drop / "scan.zip")
        office.queued("scan.zip")


def test_broken_watch_does_not_stop_the_others(open_office: OpenOffice, tmp_path: Path) -> None:
    """Of two folders one is missing: said once, and files in the other are queued."""
    missing = Watch(name="second", drop=tmp_path / "elsewhere" / "drop", settle_seconds=0.4)
    with open_office(missing) as office:
        assert office.await_event(events.DropFolderLost).watch == "second"
        write_zip(office.drop / "scan.zip")
        assert office.queued("scan.zip").watch == "default"


def test_quiet_means_nothing_is_on_its_way(open_office: OpenOffice, tmp_path: Path) -> None:
    """`--until-idle` asks this: false while a file arrives, true when all is queued or refused."""
    whole = write_zip(tmp_path / "whole").read_bytes()
    with open_office(give_up_seconds=3.0) as office:
        until(lambda: office.intake.quiet)
        (office.drop / "scan.zip").write_bytes(whole[:-30])
        until(lambda: office.why("scan.zip"))
        assert not office.intake.quiet
        office.queued("scan.zip")
        until(lambda: office.intake.quiet)


def test_slow_look_into_one_file_holds_up_no_other(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge ZIP on a slow disk takes a second to inspect: the next file does not wait ten."""
    inspect = Admission.admit

    def slowly(self: Admission, found: Found, **more: Any) -> Outcome:
        if found.path.endswith(b"slow.zip"):
            threading.Event().wait(1.0)  # the disk's own pace
        return inspect(self, found, **more)

    monkeypatch.setattr(Admission, "admit", slowly)
    with open_office() as office:
        write_zip(office.drop / "slow.zip")
        office.queued("slow.zip")
        write_zip(office.drop / "next.zip")
        office.queued("next.zip", 5.0)


def test_sidecar_beside_the_zip_gives_its_metadata(open_office: OpenOffice) -> None:
    """A TOML or JSON file of the ZIP's name is read, also one that lands a moment after it."""
    with open_office() as office:
        write_zip(office.drop / "a.zip")
        (office.drop / "a.zip.toml").write_text('task_id = "77"\nupload_type = "zip_no_qr"\nsheets = 3\n')
        write_zip(office.drop / "b.zip", seed=1)
        (office.drop / "b.zip.json").write_text('{"notes": "hall", "sheets": 4}')
        first = office.queued("a.zip")
        assert (first.metadata.task_id, first.metadata.upload_type) == ("77", "zip_no_qr")
        second = office.queued("b.zip")
        assert second.problem is not None
        assert second.problem.code == "sheets_differ"


def test_content_that_was_delivered_before_is_refused(open_office: OpenOffice) -> None:
    """Under another name too, naming the earlier batch; the same name with new content is a new file."""
    with open_office() as office:
        write_zip(office.drop / "a.zip", seed=1)
        office.queued("a.zip")
        job = office.store.claim("w")
        assert job is not None
        ledger = Ledger(office.store._reader, office.store._reader, SystemClock())
        ledger.batch_created(job.parts[0], "batch-1")
        (office.drop / "a.zip").rename(office.drop / "again.zip")
        office.store.filed(office.store.job(job.id), b"/done/a.zip")
        again = office.queued("again.zip")
        assert again.problem is not None
        assert again.problem.code == "duplicate"
        assert "batch-1" in again.problem.summary
        write_zip(office.drop / "a.zip", seed=2)
        until(lambda: [j.status for j in office.jobs() if j.name == "a.zip"].count(Status.PENDING))


def test_duplicates_are_uploaded_where_that_is_wanted(open_office: OpenOffice) -> None:
    """`queue.duplicates = "upload"` lets the same content through."""
    with open_office(queue={"duplicates": "upload"}) as office:
        write_zip(office.drop / "a.zip", seed=1)
        office.queued("a.zip")
        job = office.store.claim("w")
        assert job is not None
        ledger = Ledger(office.store._reader, office.store._reader, SystemClock())
        ledger.batch_created(job.parts[0], "batch-1")
        (office.drop / "a.zip").rename(office.drop / "again.zip")
        assert office.queued("again.zip").status is Status.PENDING


def test_marker_is_waited_for_where_one_is_asked_for(open_office: OpenOffice) -> None:
    """With done_marker set a whole ZIP waits, and says for what, until the marker is there."""
    with open_office(done_marker="{name}.done", give_up_seconds=60) as office:
        write_zip(office.drop / "a.zip")
        until(lambda: "a.zip.done" in office.why("a.zip"))
        (office.drop / "a.zip.done").touch()
        office.queued("a.zip")


def test_file_that_is_removed_while_it_waits_ends_its_job(open_office: OpenOffice) -> None:
    """The list of waiting files is true: a scan ends what was taken away, before its turn comes."""
    with open_office(**RESCANS_ALONE) as office:
        path = write_zip(office.drop / "scan.zip")
        office.queued("scan.zip")
        path.unlink()
        until(lambda: office.jobs()[0].status is Status.ABORTED, what="the job's end")
        [job] = office.jobs()
        assert job.problem is not None
        assert job.problem.code == "file_gone"
        assert office.await_event(events.FileAborted).job == job.id


def test_file_that_is_replaced_while_it_waits_settles_anew(open_office: OpenOffice, tmp_path: Path) -> None:
    """The same name with new content: the queue has the new size, and one job alone."""
    with open_office(**RESCANS_ALONE) as office:
        write_zip(office.drop / "scan.zip")
        first = office.queued("scan.zip")
        newer = write_zip(tmp_path / "newer", sheets=5)
        size = newer.stat().st_size
        newer.rename(office.drop / "scan.zip")
        until(lambda: [job.identity.size for job in office.jobs()] == [size], what="the new size")
        assert office.queued("scan.zip").id != first.id
        assert office.await_event(events.SourceChanged).job == first.id


def test_oldest_file_goes_first_whatever_folder_it_lies_in(open_office: OpenOffice, tmp_path: Path) -> None:
    """A folder with many files does not starve another: a full queue takes them by their age."""
    second = tmp_path / "second" / "drop"
    second.mkdir(parents=True)
    other = Watch(name="second", drop=second, settle_seconds=0.4, status_board=False)
    with open_office(other, queue={"max_files": 1}) as office:
        write_zip(office.drop / "first.zip")
        office.queued("first.zip")
        for number in range(3):
            os.utime(write_zip(office.drop / f"young{number}.zip"), (2_000, 2_000))
        os.utime(write_zip(second / "old.zip"), (1_000, 1_000))
        until(lambda: office.why("old.zip") == "the queue is full", what="old.zip waits for room")
        until(lambda: office.why("young2.zip") == "the queue is full", what="young2.zip waits for room")
        first = office.store.claim("somebody")
        assert first is not None
        office.queued("old.zip")
        assert sorted(office.statuses()) == ["first.zip", "old.zip"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_reader_of_events_ends_the_process(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader of watchdog's serves all watches: without it nothing would be heard, silently."""
    monkeypatch.setattr(loop, "LISTENING_SECONDS", 0.5)
    with open_office(**HINTS_ALONE) as office:
        write_zip(office.drop / "scan.zip")
        office.queued("scan.zip")
        [reader] = [t for t in threading.enumerate() if isinstance(t, InotifyFD) and t.is_alive()]
        kill_thread(reader)
        (office.drop / "woken.tmp").touch()
        until(lambda: not reader.is_alive(), what="the reader's death")
        until(lambda: office.deaths, what="the death of intake")
        assert "watchdog" in str(office.deaths.pop())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_closed_descriptor_of_events_ends_the_process(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """watchdog's reader would go on for ever without hearing anything; that it lives proves nothing."""
    monkeypatch.setattr(loop, "LISTENING_SECONDS", 0.5)
    with open_office(**HINTS_ALONE) as office:
        write_zip(office.drop / "scan.zip")
        office.queued("scan.zip")
        [reader] = [t for t in threading.enumerate() if isinstance(t, InotifyFD) and t.is_alive()]
        descriptor = os.dup(reader._inotify_fd)
        with replaced_by_nothing(reader._inotify_fd, descriptor):
            until(lambda: office.deaths, what="the death of intake")
        assert "watchdog" in str(office.deaths.pop())


@contextlib.contextmanager
def replaced_by_nothing(number: int, kept: int) -> Iterator[None]:
    """The descriptor is another file's for a while, as when it was closed and its number used again."""
    other, _ = pipe = os.pipe()
    os.dup2(other, number)
    try:
        yield
    finally:
        os.dup2(kept, number)  # the reader closes it in the end
        for each in (kept, *pipe):
            os.close(each)


def kill_thread(thread: threading.Thread) -> None:
    """Raise SystemExit in it, as a defect would."""
    assert thread.ident is not None
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert raised == 1


def test_duplicate_is_delivered_with_retry_force(open_office: OpenOffice, tmp_path: Path) -> None:
    """A file that was refused as a duplicate can't be tried again by mistake, only with --force."""
    with open_office(**RESCANS_ALONE) as office:
        first = write_zip(office.drop / "first.zip")
        job = office.queued("first.zip")
        shutil.copy(first, tmp_path / "again.zip")
        ledger = Ledger(office.engine, office.engine, SystemClock())
        ledger.batch_created(job.parts[0], "B-1")
        (office.drop / "again.zip.toml").write_text('task_id = "7"')
        (tmp_path / "again.zip").rename(office.drop / "again.zip")
        again = office.queued("again.zip")
        assert again.metadata.task_id == "7", "what its sidecar says is kept for the day it is forced"
        assert again.problem is not None
        assert again.problem.code == "duplicate"
        assert "B-1" in again.problem.summary
        with opened_control(tmp_path / "queue.db", SystemClock()) as control:
            with pytest.raises(Problem) as refused:
                control.retry(again.id)
            assert refused.value.code == "needs_force"
            control.retry(again.id, force=True)
        assert office.queued("again.zip").status is Status.PENDING
