"""The reckoning after a storm: each file once, each breach named, each doubt explained."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.soak.doubts import MOMENT, Doubts
from tests.e2e.soak.scanner import Dropped
from tests.e2e.soak.station import Station
from tests.zips import sha256

STOP_SECONDS, AWAITED_STOP_SECONDS = 1.0, 5.0
REFUSED = {"broken": {"not_a_zip", "empty_file"}}
ALWAYS_POSSIBLE = {"cancelled", "outcome_unknown"}


class Account:
    def __init__(self, station: Station, dropped: list[Dropped]) -> None:
        self.station, self.dropped = station, dropped
        self.folder = station.machine.folder
        self.jobs = station.jobs()
        self.batches = station.server.told("batches")
        self.requests = sorted(station.server.told("requests"), key=lambda line: line["began"])
        self.by_name = {job["name"]: job for job in self.jobs}
        self.explained: list[str] = []

    def complaints(self) -> list[str]:
        checks = (
            self.protocol, self.places, self.lines, self.failures, self.once, self.contents, self.doubts,
            self.sent_again, self.started, self.stops, self.log,
        )  # fmt: skip
        return [f"{check.__name__}: {what}" for check in checks for what in check()]

    # the server's view

    def protocol(self) -> Iterator[str]:
        for breach in self.station.server.told("breaches"):
            yield json.dumps(breach)

    def sent_again(self) -> Iterator[str]:
        """An acknowledged chunk comes again only when its record may have been lost with the daemon."""
        for line in self.station.server.told("again"):
            if not self._happened(
                line["acknowledged"] - MOMENT, min(line["acknowledged"] + 5, line["again"])
            ):
                yield f"a chunk that was acknowledged was sent again: {line}"

    def started(self) -> Iterator[str]:
        starts: dict[str, list[dict[str, Any]]] = {}
        for request in self.requests:
            if "starts" in request and request["fate"] == "202":
                starts.setdefault(request["starts"], []).append(request)
        for job in self.jobs:
            for part in job["parts"]:
                if job["status"] == "completed" and not starts.get(part["batch_id"]):
                    yield f"{job['name']} is done, but {part['batch_id']} was never started"
        for batch, accepted in starts.items():
            for one, two in itertools.pairwise(accepted):
                if not self._happened(one["ended"] - MOMENT, two["began"]):
                    yield f"{batch} was started twice without cause"

    def _happened(self, since: float, until: float, *kinds: str) -> bool:
        return any(since <= at <= until and kind in (kinds or (kind,)) for at, kind in self.station.events)

    # each file once

    def places(self) -> Iterator[str]:
        """Each lies where it belongs, as it was, with the reason beside it where it failed."""
        if left := self.station.machine.names("drop"):
            yield f"in the drop folder: {left}"
        found: Counter[str] = Counter()
        for folder in ("done", "failed"):
            for name in self.station.machine.names(folder):
                path = self.folder / folder / name
                if not name.endswith((".toml", ".error.txt")):
                    found[sha256(path)] += 1
                    beside = f"{path}.error.txt"
                    text = Path(beside).read_text() if os.path.exists(beside) else ""
                    if ("What to do: " in text) is not (folder == "failed"):
                        yield f"{folder}/{name}: the text beside it is {text!r}"
        wanted = Counter(file.digest for file in self.dropped)
        if found != wanted:
            yield f"lost {wanted - found}, too many {found - wanted}"
        for file in self.dropped:
            if file.shown not in self.by_name:
                yield f"{file.shown} has no row"

    def lines(self) -> Iterator[str]:
        found = Counter(line["name"] for line in self.station.machine.summary())
        wanted = Counter(file.shown for file in self.dropped) + self.station.retried
        for name in found.keys() | wanted.keys():
            if found[name] != wanted[name]:
                yield f"{name}: {found[name]} lines, not {wanted[name]}"

    def failures(self) -> Iterator[str]:
        """No file has failed by an outage: only by its own fault, by an operator's word, or in doubt."""
        for file in self.dropped:
            job = self.by_name.get(file.shown)
            if job is None or job["status"] == "completed":
                continue
            known = REFUSED.get(file.kind) or ALWAYS_POSSIBLE | (
                {"duplicate"} if self._copies(file) else set()
            )
            if job["error_code"] not in known:
                yield f"{file.shown} ({file.kind}): {job['error_code']}: {job['error_summary']}"

    def _copies(self, file: Dropped) -> list[Dropped]:
        return [other for other in self.dropped if other.digest == file.digest and other is not file]

    def once(self) -> Iterator[str]:
        """One batch (or one of each part) for each content, whatever happened."""
        made = Counter((batch["sha256"]) for batch in self.batches)
        for digest, count in made.items():
            if count > 1 and not self._asked_for(digest):
                names = [
                    (batch["name"], batch["batch"], batch["at"])
                    for batch in self.batches
                    if batch["sha256"] == digest
                ]
                yield f"{count} batches of one content: {names}"
        known = {batch["batch"]: batch for batch in self.batches}
        for job in self.jobs:
            for part in job["parts"]:
                batch = known.get(part["batch_id"] or "")
                if part["batch_id"] and (batch is None or batch["name"] != part["name"]):
                    yield f"{part['name']} is said to be {part['batch_id']}, which is {batch}"
                if job["status"] == "completed" and part["batch_id"] is None:
                    yield f"{job['name']} is done, without a batch for part {part['index']}"
        owned = {part["batch_id"] for job in self.jobs for part in job["parts"]}
        doubtful = {part["name"] for job in self.jobs for part in job["parts"] if part["final_sent_at"]}
        for batch in self.batches:
            if batch["batch"] not in owned and batch["name"] not in doubtful:
                yield f"nobody knows of {batch}"

    def _asked_for(self, digest: str) -> bool:
        """A person had it sent again, after it was in doubt: by a command, or by dropping it once more."""
        files = [file for file in self.dropped if file.digest == digest]
        if any(self.station.retried[file.shown] for file in files):
            return True
        jobs = [self.by_name[file.shown] for file in files]
        doubtful = [job for job in jobs if job["error_code"] == "outcome_unknown"]
        return any(other["created_at"] > job["finished_at"] for job in doubtful for other in jobs)

    def contents(self) -> Iterator[str]:
        """What the server holds of a delivered file is that file, with what was said of it."""
        held = {batch["batch"]: batch for batch in self.batches}
        for file in self.dropped:
            job = self.by_name.get(file.shown)
            if job is None or job["status"] != "completed":
                continue
            batches = [held[part["batch_id"]] for part in job["parts"]]
            if len(batches) != file.parts:
                yield f"{file.shown} became {len(batches)} batches, not {file.parts}"
            if file.parts == 1 and batches[0]["sha256"] != file.digest:
                yield f"{file.shown} is not what the server holds"
            if file.parts > 1 and self._sheets_of(batches) != sheets(Path(os.fsdecode(job["path"]))):
                yield f"{file.shown}: its parts are not its sheets"
            said = {(batch.get("task_id"), batch.get("notes")) for batch in batches}
            if said != {("7", "room 12") if file.sidecar else (None, None)}:
                yield f"{file.shown}: {said}"

    def _sheets_of(self, batches: list[dict[str, Any]]) -> list[tuple[str, int]]:
        folder = self.station.server.folder / "batches"
        return [sheet for batch in batches for sheet in sheets(folder / batch["batch"])]

    def doubts(self) -> Iterator[str]:
        """What is said to be unknown was sent whole and got no answer, for a cause that is known here."""
        doubts = Doubts(self.requests, self.station.events)
        for job in self.jobs:
            owed = [part for part in job["parts"] if part["final_sent_at"] and not part["batch_id"]]
            for part in owed if job["error_code"] == "outcome_unknown" else []:
                if self.station.looks_up and part["upload_id"] and job["status"] == "error":
                    yield f"{part['name']} could have been looked up: {job['error_summary']}"
                why = doubts.why(part["name"], part["final_sent_at"])
                self.explained.append(f"{part['name']}: {why}: {job['error_summary']}")
                if not why:
                    yield f"{part['name']}: {job['error_summary']} {doubts.requests_of(part['name'])}"
            if job["error_code"] == "outcome_unknown" and not owed:
                yield f"{job['name']}: {job['error_summary']} But no part is in doubt."

    # stops, and what was said

    def stops(self) -> Iterator[str]:
        for stop in self.station.stops:
            awaited = any(
                (line.get("makes_batch") or "starts" in line)
                and line["began"] <= stop.at + stop.seconds
                and line["ended"] >= stop.at
                for line in self.requests
            )
            most = AWAITED_STOP_SECONDS if awaited else STOP_SECONDS
            if stop.seconds > most or stop.code not in (0, -15):
                yield f"a stop at {stop.at} took {stop.seconds:.2f} s, code {stop.code}, awaited: {awaited}"

    def log(self) -> Iterator[str]:
        for line in (self.folder / "log.jsonl").read_text().splitlines():
            try:
                event = json.loads(line)["event"]
            except ValueError:
                yield f"in the log: {line}"
                continue
            if event in (
                "thread_died",
                "thread_silent",
                "config_refused",
                "source_changed",
                "filing_delayed",
            ):
                yield f"in the log: {line}"


def sheets(path: Path) -> list[tuple[str, int]]:
    with zipfile.ZipFile(path) as archive:
        return [(entry.filename, entry.CRC) for entry in archive.infolist()]
