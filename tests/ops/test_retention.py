"""Retention: what was delivered long ago goes, and nothing else does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.events import Event, Hooks
from omrwatchd.intake.admit import Admission, Admitted, Refused
from omrwatchd.intake.scan import Found
from omrwatchd.model import Identity, Job, NewJob, Status
from omrwatchd.ops.attendants import attendants
from omrwatchd.ops.retention import Keeper
from omrwatchd.queue.control import opened_control
from omrwatchd.queue.history import History
from omrwatchd.queue.views import Views
from omrwatchd.settings import Settings
from omrwatchd.sheets.pictures import list_pictures
from tests.delivery.conftest import OpenStation, Station, open_station, receiver
from tests.waiting import until
from tests.zips import write_zip

__all__ = ["open_station", "receiver"]  # fixtures
DAY = 86_400.0


class LaterClock(SystemClock):
    """The machine's clock, some days ahead."""

    def __init__(self, days: float) -> None:
        self._ahead = days * DAY

    def now(self) -> float:
        return super().now() + self._ahead


@dataclass
class Archive:
    """A station with its retention, looked at from the future."""

    station: Station
    announced: list[Event] = field(default_factory=list)

    @property
    def done(self) -> Path:
        return self.station.folder / "done"

    def keeper(self, days: float) -> Keeper:
        settings = self.station.settings
        history = History(settings.queue_file)
        return Keeper(
            settings.retention, history, settings.watch_named, LaterClock(days), self.announced.append, _fail
        )

    def look(self, days: float) -> list[Event]:
        """What one round announces that is done ``days`` from now."""
        self.announced.clear()
        self.keeper(days).look()
        return list(self.announced)

    def deliver(self, name: str = "scan.zip", **words: object) -> Job:
        return self.station.ends(self.station.drop(name, **words), Status.COMPLETED)  # type: ignore[arg-type]


def _fail(_name: str, death: BaseException) -> None:
    raise AssertionError(death)


@pytest.fixture
def archive(open_station: OpenStation) -> Iterator[Archive]:
    with open_station(
        retention={"done_days": 30, "history_days": 90}, watch={"done_marker": "{name}.done"}
    ) as station:
        yield Archive(station)


def test_delivered_file_goes_after_its_time_with_its_companions(archive: Archive) -> None:
    """On the 31st day the ZIP leaves done/ with its sidecar and marker, and that is logged; not before."""
    drop = archive.station.folder / "drop"
    (drop / "scan.zip.toml").write_text('notes = "room 12"\n')
    (drop / "scan.zip.done").write_text("")
    job = archive.deliver()
    (archive.done / "other.zip").write_text("put here by somebody")
    assert sorted(os.listdir(archive.done)) == ["other.zip", "scan.zip", "scan.zip.done", "scan.zip.toml"]
    assert archive.look(29) == []
    assert len(os.listdir(archive.done)) == 4
    [pruned] = archive.look(31)
    assert isinstance(pruned, events.FilePruned)
    assert (pruned.job, pruned.file, pruned.path) == (job.id, "scan.zip", str(archive.done / "scan.zip"))
    assert pruned.bytes == job.identity.size + len('notes = "room 12"\n')
    assert os.listdir(archive.done) == ["other.zip"]
    assert archive.look(32) == []


@pytest.mark.parametrize("change", ["bytes", "time", "replaced", "link", "folder"])
def test_what_is_not_the_file_that_was_filed_stays(archive: Archive, change: str) -> None:
    """A file in done/ that was changed, replaced, or turned into a link is somebody's; said once."""
    archive.deliver()
    file = archive.done / "scan.zip"
    found = file.stat()
    precious = archive.station.folder / "precious.zip"
    if change == "bytes":
        with file.open("ab") as opened:
            opened.write(b"more")
        os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
    elif change == "time":
        os.utime(file)
    elif change == "replaced":
        content = file.read_bytes()
        file.rename(archive.station.folder / "old.zip")
        file.write_bytes(content)
        os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
    elif change == "link":
        file.rename(precious)
        file.symlink_to(precious)
    else:
        file.unlink()
        file.mkdir()
    [kept] = archive.look(31)
    assert isinstance(kept, events.FileKept)
    assert file.exists()
    assert change != "link" or precious.exists()
    assert archive.look(32) == []


def test_file_that_somebody_took_away_is_no_matter(archive: Archive) -> None:
    """What an operator has moved out of done/ is forgotten without a word; a done/ that is away is not."""
    archive.deliver("a.zip")
    archive.deliver("b.zip")
    history = History(archive.station.settings.queue_file)
    parked = archive.station.folder / "parked"
    archive.done.rename(parked)
    archive.done.mkdir()  # as an unmounted share looks
    assert archive.look(31) == []
    assert len(history.filed_before(time.time() + DAY, 0)) == 2
    archive.done.rmdir()
    keeper = archive.keeper(31)
    keeper.look()
    keeper.look()
    assert [type(event) for event in archive.announced] == [events.RetentionDelayed]
    parked.rename(archive.done)
    (archive.done / "a.zip").unlink()
    assert [type(event) for event in archive.look(31)] == [events.FilePruned]
    archive.deliver("c.zip")
    assert [job.name for job in history.filed_before(time.time() + DAY, 0)] == ["c.zip"]
    assert archive.look(1) == []
    [pruned] = archive.look(31)
    assert isinstance(pruned, events.FilePruned)


def test_failed_files_and_foreign_files_stay(archive: Archive) -> None:
    """Neither failed/ nor a file that the daemon did not move itself is touched, however old."""
    store = archive.station.store
    bad = write_zip(archive.station.folder / "drop" / "bad.zip")
    found = bad.stat()
    identity = Identity(found.st_size, found.st_mtime_ns, found.st_ino)
    row = NewJob(path=os.fsencode(bad), name="bad.zip", watch="default", identity=identity)
    refused = store.refuse(row, Problem("no_sheets", "There are no sheets in bad.zip."))
    archive.station.worker.bell.set()
    until(lambda: store.job(refused).summary_at)
    archive.deliver("good.zip")
    archive.done.joinpath("foreign.zip").write_bytes(b"PK")
    archive.look(1000)
    assert sorted(os.listdir(archive.station.folder / "failed")) == ["bad.zip", "bad.zip.error.txt"]
    assert os.listdir(archive.done) == ["foreign.zip"]


def test_companion_that_was_edited_since_stays(archive: Archive) -> None:
    """A sidecar that somebody wrote to after the delivery is theirs."""
    (archive.station.folder / "drop" / "scan.zip.toml").write_text('notes = "x"\n')
    archive.deliver()
    sidecar = archive.done / "scan.zip.toml"
    later = time.time() + 3600
    os.utime(sidecar, (later, later))
    archive.look(31)
    assert os.listdir(archive.done) == ["scan.zip.toml"]


def test_file_that_can_not_be_deleted_is_tried_again(archive: Archive) -> None:
    """A folder without rights delays it: said once, done in a later round."""
    if os.geteuid() == 0:
        pytest.skip("root may delete anything")
    archive.deliver()
    archive.done.chmod(0o500)
    keeper = archive.keeper(31)
    keeper.look()
    keeper.look()
    assert [type(event) for event in archive.announced] == [events.RetentionDelayed]
    archive.done.chmod(0o700)
    keeper.look()
    assert os.listdir(archive.done) == []


def test_history_is_shortened_and_duplicates_stay_known(archive: Archive) -> None:
    """After history_days neither status nor summary shows the file, and dropping it again is a duplicate."""
    job = archive.deliver()
    again = archive.station.folder / "drop" / "again.zip"
    shutil.copy(archive.done / "scan.zip", again)
    settings = archive.station.settings
    views = Views(settings.queue_file, SystemClock())
    assert archive.look(29) == []
    assert [type(event) for event in archive.look(91)] == [events.FilePruned, events.HistoryPruned]
    assert views.snapshot(everything=True).jobs == ()
    assert views.finished() == []
    assert archive.look(92) == []
    found = again.stat()
    file = Found(os.fsencode(again), found.st_size, found.st_mtime_ns, found.st_ino)
    (archive.station.folder / "drop" / "again.zip.done").write_text("")
    outcome = Admission(settings.watch[0], archive.station.store, settings).admit(file, ask_lease=False)
    assert isinstance(outcome, Refused)
    assert outcome.problem.code == "duplicate"
    assert job.name in outcome.problem.summary
    assert job.batch_ids[0] in outcome.problem.summary


def test_chunks_of_old_deliveries_and_rows_of_undelivered_files_go(archive: Archive) -> None:
    """The rows that take the room are gone: acknowledged chunks, and files that never reached the server."""
    store = archive.station.store
    archive.deliver("large.zip", size=5_000_000)
    refused = store.refuse(
        NewJob(path=b"/srv/x.zip", name="x.zip", watch="default", identity=Identity(1, 1, 1)),
        Problem("not_a_zip", "x.zip is no ZIP."),
    )
    until(lambda: store.job(refused).summary_at)
    with sqlite3.connect(archive.station.settings.queue_file) as database:
        assert database.execute("SELECT count(*) FROM chunks").fetchone() > (0,)
        [event] = [each for each in archive.look(91) if isinstance(each, events.HistoryPruned)]
        assert (event.deleted, event.shortened) == (1, 1)
        assert database.execute("SELECT count(*) FROM chunks").fetchone() == (0,)
        assert database.execute("SELECT name FROM jobs").fetchall() == [("large.zip",)]
    database.close()


def test_old_jobs_are_shortened_in_small_transactions(archive: Archive) -> None:
    """Thousands of old jobs go in one round, without keeping other writers out for long."""
    with sqlite3.connect(archive.station.settings.queue_file) as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            "INSERT INTO jobs (path, name, watch, size, mtime_ns, inode, upload_type, sheets, status, "
            "created_at, finished_at, filed_at, summary_at) SELECT CAST('/x/' || i AS BLOB), 'x', 'default', "
            "1, 1, '1', 'zip_with_qr', 1, 'error', 1, 1, 1, 1 FROM n"
        )
    database.close()
    assert archive.look(0) == [events.HistoryPruned(1000, 0)]


def test_unfinished_business_is_never_old(archive: Archive) -> None:
    """A file that is not filed or not summed up yet keeps its rows, whatever its age."""
    job = archive.deliver()
    archive.station.store.note(job.id, summary_at=None, finished_at=1.0)
    archive.station.worker.stop()
    assert archive.station.worker.join(5)
    archive.station.store.note(job.id, summary_at=None)
    assert archive.look(1000) == []
    assert (archive.done / "scan.zip").exists()


def test_retry_of_all_leaves_what_left_the_history(archive: Archive) -> None:
    """`retry --failed` means the failed files on the list, not those of years ago."""
    job = archive.deliver()
    archive.station.store.note(job.id, status=Status.ERROR)
    archive.look(91)
    with opened_control(archive.station.settings.queue_file, SystemClock()) as control:
        assert control.retry_failed(force=True) == []


def test_nothing_is_written_when_nothing_is_old(archive: Archive) -> None:
    """A quiet queue is only read: no fsync each hour."""
    archive.deliver()
    until(lambda: archive.station.tools_row().state == "idle")
    changes = archive.station.store.changes()
    changes.seen()
    archive.look(1)
    assert not changes.seen()


@pytest.mark.slow
def test_locked_queue_delays_it(archive: Archive) -> None:
    """A database that others hold is no reason to end the daemon: it is tried again."""
    job = archive.deliver()
    archive.station.worker.stop()
    assert archive.station.worker.join(5)
    database = sqlite3.connect(archive.station.settings.queue_file)
    database.execute("BEGIN IMMEDIATE")
    try:
        keeper = archive.keeper(91)
        looked = threading.Thread(target=keeper.look)
        looked.start()
        looked.join(60)
        assert [type(event) for event in archive.announced] == [events.RetentionDelayed]
    finally:
        database.rollback()
        database.close()
    archive.announced.clear()
    keeper.look()
    assert archive.station.job(job).finished_at is None


class Rounds(LaterClock):
    """The clock of a keeper whose rounds follow one another at once: it shows the days, then ends it."""

    def __init__(self, *days: float) -> None:
        super().__init__(days[0])
        self._days = list(days[1:])

    def wait(self, event: threading.Event, _seconds: float | None) -> bool:
        if self._days:
            self._ahead = self._days.pop(0) * DAY
        else:
            event.set()
        return event.is_set()


@pytest.mark.parametrize(
    ("days", "pruned"),
    [
        ((31.0,), 0),  # right after a start nobody knows yet
        ((31.0, 0.0, 0.0), 0),  # ahead at boot, then set
        ((0.0, 0.0, 31.0, 0.0, 0.0), 0),  # ahead for a while
        ((0.0, 31.0, 31.0), 1),  # it was a long sleep
        ((31.0, 31.0), 1),
    ],
)
def test_clock_that_jumps_deletes_nothing(archive: Archive, days: tuple[float, ...], pruned: int) -> None:
    """The time of the day is believed when it has only passed from one round to the next."""
    archive.deliver()
    settings = archive.station.settings
    keeper = Keeper(
        settings.retention,
        History(settings.queue_file),
        settings.watch_named,
        Rounds(*days),
        archive.announced.append,
        _fail,
    )
    keeper.run()
    assert len(archive.announced) == pruned
    assert len(os.listdir(archive.done)) == 1 - pruned


def test_the_daemon_does_it_by_itself(archive: Archive, tmp_path: Path) -> None:
    """With the settings alone the daemon prunes; without them there is no such thread."""
    archive.deliver()
    settings: Settings = archive.station.settings
    with attendants(settings, Rounds(31, 31), Hooks([archive.announced.append]), _fail):
        until(lambda: [each for each in archive.announced if isinstance(each, events.FilePruned)])
    assert os.listdir(archive.done) == []
    off = settings.model_copy(update={"retention": type(settings.retention)()})
    with attendants(off, LaterClock(31), Hooks(), _fail):
        assert "retention" not in {thread.name for thread in threading.enumerate()}


def test_folder_of_pictures_goes_whole_or_not_at_all(open_station: OpenStation, tmp_path: Path) -> None:
    """A delivered folder of pictures leaves done/ with all in it; one that was added to stays as it is."""
    images = {"upload_type": "images", "task_id": "1"}
    with open_station(retention={"done_days": 30}, watch=images) as station:
        archive = Archive(station)
        for name in ("a", "b"):
            _deliver_pictures(station, name)
        (archive.done / "b" / "added.txt").write_text("mine")
        kinds = {type(event) for event in archive.look(31)}
        assert kinds == {events.FilePruned, events.FileKept}
        assert os.listdir(archive.done) == ["b"]
        assert sorted(os.listdir(archive.done / "b")) == ["1.jpg", "Thumbs.db", "added.txt"]


def test_folder_half_deleted_by_a_crash_is_finished(open_station: OpenStation) -> None:
    """What a crash in the middle of a deletion left behind goes in the next round."""
    images = {"upload_type": "images", "task_id": "1"}
    with open_station(retention={"done_days": 30}, watch=images) as station:
        archive = Archive(station)
        job = _deliver_pictures(station, "a")
        leaving = archive.done / f".omrwatchd-pruning-{job.id}"
        (archive.done / "a").rename(leaving)
        (leaving / "1.jpg").unlink()
        [pruned] = archive.look(31)
        assert isinstance(pruned, events.FilePruned)
        assert os.listdir(archive.done) == []


def _deliver_pictures(station: Station, name: str) -> Job:
    folder = station.folder / "drop" / name
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(name.encode() * 500)
    (folder / "Thumbs.db").write_bytes(b"junk")
    pictures = list_pictures(os.fsencode(folder))
    found = Found(os.fsencode(folder), pictures.size, pictures.mtime_ns, pictures.digest)
    admission = Admission(station.settings.watch[0], station.store, station.settings)
    outcome = admission.admit(found, ask_lease=False)
    assert isinstance(outcome, Admitted), outcome
    station.worker.bell.set()
    return station.ends(station.store.job(outcome.job), Status.COMPLETED)
