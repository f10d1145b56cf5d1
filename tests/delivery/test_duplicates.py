"""The same content twice in the queue: admitted both before either was delivered."""

from __future__ import annotations

import os
import shutil

from omrwatchd import events
from omrwatchd.model import Identity, Job, NewJob, NewPart, Status
from omrwatchd.queue.views import Views
from omrwatchd.receiver import Fault, Receiver
from tests.delivery.conftest import OpenStation, Station
from tests.waiting import HurriedClock, until


def copy_of(station: Station, job: Job, name: str) -> Job:
    """A copy of a queued file, queued as well."""
    path = station.folder / "drop" / name
    shutil.copy(os.fsdecode(job.path), path)
    found = path.stat()
    new = NewJob(
        path=os.fsencode(path),
        name=name,
        watch=job.watch,
        identity=Identity(found.st_size, found.st_mtime_ns, found.st_ino),
        sheets=job.sheets,
        fingerprint=job.fingerprint,
        parts=(NewPart(name, job.sheets, found.st_size, whole=True, stop_sheet=job.sheets),),
    )
    return station.store.job(station.store.admit(new))


def test_of_copies_that_wait_together_one_is_delivered(receiver: Receiver, open_station: OpenStation) -> None:
    """The others are duplicates that name its batch; they hold nothing up, and --force still sends one."""
    with open_station(start=False) as station:
        first = station.drop("a.zip")
        copies = [copy_of(station, first, f"copy-{number}.zip") for number in range(4)]
        last = station.drop("z.zip")
        station.worker.start()
        station.ends(first, Status.COMPLETED)
        for copy in copies:
            problem = station.ends(copy, Status.ERROR).problem
            assert problem is not None
            assert problem.code == "duplicate"
            assert f"as a.zip (batch {receiver.batches[0].batch_id})" in problem.summary
        station.ends(last, Status.COMPLETED)
        assert [batch.filename for batch in receiver.batches] == ["a.zip", "z.zip"]
        assert not station.announced(events.QueueHeld)
        with station.operator() as control:
            control.retry(copies[0].id, force=True)
        station.ends(copies[0], Status.COMPLETED)
    assert [batch.filename for batch in receiver.batches] == ["a.zip", "z.zip", "copy-0.zip"]


def test_copy_is_delivered_when_the_first_was_refused(receiver: Receiver, open_station: OpenStation) -> None:
    """Only what became a batch makes a duplicate."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="not now", times=1))
    with open_station(start=False) as station:
        first = station.drop("a.zip")
        copy = copy_of(station, first, "copy.zip")
        station.worker.start()
        station.ends(first, Status.ERROR)
        station.ends(copy, Status.COMPLETED)
    assert [batch.filename for batch in receiver.batches] == ["copy.zip"]


def test_copy_of_what_may_be_on_the_server_waits_for_a_person(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """The first one's answer was lost: the copy that waited beside it makes no second batch by itself."""
    receiver.add_fault(Fault(match="upload", action="lose_answer"))
    with open_station(start=False) as station:
        first = station.drop("a.zip")
        copy = copy_of(station, first, "copy.zip")
        station.worker.start()
        station.ends(first, Status.ERROR)
        problem = station.ends(copy, Status.ERROR).problem
        assert problem is not None
        assert problem.code == "duplicate"
        assert "a.zip, which may be on the server already" in problem.summary
        assert len(receiver.batches) == 1
        with station.operator() as control:
            control.retry(copy.id, force=True)
        station.ends(copy, Status.COMPLETED)


def test_copy_of_what_is_partly_on_the_server_is_not_sent_again(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """Of two parts one was refused: the copy makes no second batch of the other."""
    receiver.add_fault(Fault(match="upload", action="status", status=422, message="not now", times=1))
    with open_station(start=False, split={"max_sheets": 2}) as station:
        first = station.drop("a.zip", sheets=4)
        copy = copy_of(station, first, "copy.zip")
        station.worker.start()
        station.ends(first, Status.ERROR)
        problem = station.ends(copy, Status.ERROR).problem
        assert problem is not None
        assert problem.code == "duplicate"
        assert f"`omrwatchd retry {first.id}`" in problem.advice
    assert [batch.filename for batch in receiver.batches] == ["a.part2of2.zip"]


def test_copies_are_all_delivered_where_that_is_wanted(receiver: Receiver, open_station: OpenStation) -> None:
    """`queue.duplicates = "upload"` goes for those that wait together, too."""
    with open_station(start=False, queue={"duplicates": "upload"}) as station:
        first = station.drop("a.zip")
        copy = copy_of(station, first, "copy.zip")
        station.worker.start()
        station.ends(first, Status.COMPLETED)
        station.ends(copy, Status.COMPLETED)
        until(lambda: len(receiver.batches) == 2)


def test_what_was_cleared_from_the_list_is_still_known(receiver: Receiver, open_station: OpenStation) -> None:
    """`clear` and `remove` forget the row that people see, never that the content was delivered."""
    with open_station() as station:
        cleared = station.ends(station.drop("a.zip"), Status.COMPLETED)
        removed = station.ends(station.drop("b.zip"), Status.COMPLETED)
        queue = station.folder / "queue.db"
        with station.operator() as control:
            control.remove(removed.id)
            assert [job.name for job in Views(queue, HurriedClock()).snapshot().jobs] == ["a.zip"]
            control.clear()
        assert Views(queue, HurriedClock()).snapshot(everything=True).jobs == ()
        for first in (cleared, removed):
            assert first.fingerprint is not None
            known = station.store.delivered_before(first.fingerprint)  # what intake asks
            assert known is not None
            assert (known.name, known.batch_ids) == (first.name, first.batch_ids)
