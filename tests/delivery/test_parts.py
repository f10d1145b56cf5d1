from __future__ import annotations

import json
import os
import zipfile

from omrwatchd import events
from omrwatchd.model import Status
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation, Station
from tests.waiting import until

IN_THREES = {"max_sheets": 3}


def contents(*paths: object) -> list[tuple[str, bytes]]:
    """Names and bytes of all entries, in order."""
    found = []
    for path in paths:
        with zipfile.ZipFile(path) as archive:  # type: ignore[call-overload]
            assert archive.testzip() is None
            found += [(info.filename, archive.read(info)) for info in archive.infolist()]
    return found


def original(station: Station) -> list[tuple[str, bytes]]:
    return contents(station.folder / "drop" / "scan.zip")


def test_large_zip_arrives_as_balanced_batches(receiver: Receiver, open_station: OpenStation) -> None:
    """Eight sheets in parts of three at most are three valid ZIPs with each sheet once, in order."""
    with open_station(split=IN_THREES) as station:
        job = station.drop(sheets=8, size=6 * MIB)
        before = original(station)
        job = station.ends(job, Status.COMPLETED)
        batches = {batch.filename: batch for batch in receiver.batches}
        names = [f"scan.part{number}of3.zip" for number in (1, 2, 3)]
        assert list(batches) == names
        assert contents(*(batches[name].path for name in names)) == before
        assert sorted(part.sheets for part in job.parts) == [2, 3, 3]
        assert [part.size for part in job.parts] == [batches[name].size for name in names]
        assert job.batch_ids == tuple(batches[name].batch_id for name in names)
        assert (station.folder / "done" / "scan.zip").exists()
        [line] = (station.folder / "summary.jsonl").read_text().splitlines()
        assert json.loads(line)["batch_ids"] == list(job.batch_ids)
        assert len(station.announced(events.CooldownStarted)) == 3


def test_stop_between_parts_resumes_with_what_is_missing(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A part that is a batch is not sent again; the one that was under way goes on at its missing chunks."""
    receiver.add_fault(
        Fault(match="chunk", filename="scan.part2of3.zip", chunk_index=2, action="delay", seconds=20)
    )
    with open_station(split=IN_THREES, upload={"direct_limit": 1024}) as station:
        job = station.drop(sheets=8, size=8 * MIB)
        before = original(station)
        until(lambda: len(station.announced(events.BatchCreated)) == 1)
        until(lambda: [e.chunk for e in station.announced(events.ChunkAcknowledged) if e.part == 1] == [0, 1])
    first = len(receiver.requests)
    with open_station(split=IN_THREES, upload={"direct_limit": 1024}) as station:
        station.ends(job, Status.COMPLETED)
    sent = [(r.filename, r.chunk_index) for r in receiver.requests[first:] if r.kind == "chunk"]
    assert not [name for name, _ in sent if name == "scan.part1of3.zip"]
    assert {index for name, index in sent if name == "scan.part2of3.zip"} == {2, 3}
    assert contents(*(batch.path for batch in receiver.batches)) == before


def test_failed_part_leaves_the_delivered_ones(receiver: Receiver, open_station: OpenStation) -> None:
    """A part that the server refuses fails alone; `retry` sends only what is missing."""
    receiver.add_fault(
        Fault(match="upload", filename="scan.part2of3.zip", action="status", status=422, message="Full")
    )
    with open_station(split=IN_THREES) as station:
        job = station.ends(station.drop(sheets=8), Status.ERROR)
        text = (station.folder / "failed" / "scan.zip.error.txt").read_text()
        assert [part.status for part in job.parts] == [Status.COMPLETED, Status.ERROR, Status.COMPLETED]
        assert "part 2" in text
        assert "Full" in text
        assert all(batch.batch_id in text for batch in receiver.batches)
        delivered = job.batch_ids
        with station.operator() as control:
            control.retry(job.id)
        job = station.ends(job, Status.COMPLETED)
        assert (station.folder / "done" / "scan.zip").exists()
        assert job.problem is None
        assert set(delivered) < set(job.batch_ids)
        lines = [json.loads(line) for line in (station.folder / "summary.jsonl").read_text().splitlines()]
        # one line each time that it ended, with all of its batches by then, in the order of the parts
        found = [(line["status"], line["batch_ids"]) for line in lines]
        assert found == [("error", list(delivered)), ("completed", list(job.batch_ids))]
    numbers = [batch.filename for batch in receiver.batches]
    assert numbers == ["scan.part1of3.zip", "scan.part3of3.zip", "scan.part2of3.zip"]


def test_part_that_fails_for_ever_costs_the_others_nothing(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """The server answers but always fails one part: after max_attempts it alone has failed."""
    receiver.add_fault(
        Fault(match="upload", filename="scan.part1of3.zip", action="status", status=500, times=-1)
    )
    with open_station(split=IN_THREES, upload={"attempts": 1}) as station:
        job = station.ends(station.drop(sheets=8), Status.ERROR)
    assert [part.status for part in job.parts] == [Status.ERROR, Status.COMPLETED, Status.COMPLETED]
    assert len([r for r in receiver.requests if r.filename == "scan.part1of3.zip"]) == 3


def test_table_of_contents_that_changed_is_not_sent(receiver: Receiver, open_station: OpenStation) -> None:
    """A file of the same size and time, but another table of contents, goes back to settling."""
    with open_station(start=False, split=IN_THREES) as station:
        job = station.drop(sheets=8)
        path = station.folder / "drop" / "scan.zip"
        data = path.read_bytes().replace(b"sheet-00007.jpg", b"sheet-99999.jpg")
        times = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        station.worker.start()
        station.await_event(events.SourceChanged)
        until(lambda: os.fsencode(path) not in station.store.open_paths())
        assert job.status is Status.PENDING
    assert receiver.batches == []
