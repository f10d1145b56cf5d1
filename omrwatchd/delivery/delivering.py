"""One job under way: its parts one after the other, each uploaded and seen through the gate."""

from __future__ import annotations

from contextlib import nullcontext

from omrwatchd import events
from omrwatchd.delivery.desk import Desk, Tools
from omrwatchd.delivery.faults import Fault, Kind
from omrwatchd.delivery.halt import Halt, Halted, Why
from omrwatchd.delivery.opening import JobFile, JobFolder, opened
from omrwatchd.delivery.passage import Passage
from omrwatchd.delivery.retry import Failed
from omrwatchd.delivery.upload import PartUpload
from omrwatchd.delivery.watcher import UploadWatcher
from omrwatchd.errors import Problem
from omrwatchd.model import Job, Part, Status, WorkerState
from omrwatchd.sheets.pictures import PictureSet
from omrwatchd.sheets.source import Source

_OF_THE_WAY = frozenset({Kind.OUTAGE, Kind.CREDENTIALS, Kind.MISCONFIGURED})
"""No file is to blame for these: the queue is held."""


class JobDelivery:
    """Delivers what is missing of one job."""

    def __init__(self, tools: Tools, desk: Desk, job: Job) -> None:
        self._tools = tools
        self._desk = desk
        self._job = job
        self._store = tools.store
        self._ledger = tools.road.ledger
        self._clock = tools.clock
        self._announce = tools.road.announce

    def run(self) -> Problem | None:
        """None when the job is delivered; a Problem when it, or some part of it, has failed for good.

        Raises:
            Failed: by a fault of the way, or of an attempt that is worth another.
            Halted: ended from outside; what was acknowledged is kept.
            SourceChanged: the file is not what it was.
            FileNotFoundError: it was taken away.
            OSError: it can't be read.
        """
        self._heed_operator()
        # what is delivered in full needs only filing: its file may be gone from where it was
        whole = self._job.delivered_at is not None
        with nullcontext() if whole else opened(self._job) as file:
            for part in self._job.parts:
                if part.status not in (Status.COMPLETED, Status.ERROR):
                    self._try_part(part, file)
        self._reload()
        failed = [part for part in self._job.parts if part.status is Status.ERROR]
        return _of_parts(self._job, failed) if failed else None

    def _reload(self) -> None:
        self._job = self._store.job(self._job.id)

    def _try_part(self, part: Part, file: JobFile | JobFolder | None) -> None:
        """A part that fails by its own fault leaves the others to be delivered."""
        try:
            self._deliver_part(part, file)
        except Failed as failure:
            self._announce(events.UploadFailed(
                self._job.id, part.name, failure.fault.problem.code, failure.fault.problem.summary
            ))  # fmt: skip
            self._ledger.fail(part.id, self._verdict(failure.fault))
        self._reload()

    def _verdict(self, fault: Fault) -> Problem:
        """Why the part has failed for good; raises Failed when it has not."""
        if fault.kind in _OF_THE_WAY:
            raise Failed(fault)
        if fault.kind is not Kind.CHUNK:
            return fault.problem
        road = self._tools.road
        if not road.attended(lambda: road.probe.answers(Kind.OUTAGE), self._heed_operator):
            raise Failed(Fault(Kind.OUTAGE, fault.problem))
        failures = self._store.job(self._job.id).failures + 1
        if failures < self._tools.settings.queue.max_attempts:
            raise Failed(fault)
        return _gave_up(fault.problem, failures)

    def _deliver_part(self, part: Part, file: JobFile | JobFolder | None) -> None:
        if part.batch_id is None:
            assert file is not None
            source = file.source(part)
            self._cool_down()
            if self._job.status is Status.PROCESSING:  # an earlier part was
                self._store.move(self._job.id, Status.PROCESSING, Status.UPLOADING)
                self._reload()
            part = self._upload(part, source)
        if self._job.status is not Status.PROCESSING:
            self._store.move(self._job.id, self._job.status, Status.PROCESSING)
            self._reload()
        try:
            Passage(self._tools, self._desk, self._heed_operator, self._job.id).see_through(part)
        finally:
            self._desk.cool_down()
        self._ledger.move(part, Status.COMPLETED)

    def _upload(self, part: Part, source: Source | PictureSet) -> Part:
        job = self._job
        self._desk.show(WorkerState.UPLOADING, None, job.id)
        part = self._ledger.move(part, Status.UPLOADING)
        halt = Halt(wake=self._tools.road.transport.wake)
        upload = PartUpload(self._tools.road, job, part, source, halt)
        watcher = UploadWatcher(
            job,
            upload,
            halt,
            self._desk.asked_to_stop,
            self._desk.sign,
            lambda reason: self._desk.show(WorkerState.UPLOADING, reason, job.id),
            self._store,
            self._ledger,
            self._tools.row.id,
            self._clock,
        )
        began = self._clock.monotonic()
        self._desk.uploading(lambda: upload.awaits_last_answer)
        try:
            batch_id = upload.run(watcher.tick)
        finally:
            self._desk.uploading(None)
        part = self._ledger.batch_created(upload.part, batch_id)
        self._desk.delivered()
        seconds = round(self._clock.monotonic() - began, 3)
        self._announce(
            events.BatchCreated(job.id, job.name, part.index, batch_id, part.size, seconds, part.sheets)
        )
        return part

    def _cool_down(self) -> None:
        """Between two parts of a job; between two jobs the cooldown is seen to before a claim."""
        while (left := self._tools.row.cooldown_left(self._tools.settings.queue.cooldown_seconds)) > 0:
            self._desk.show(WorkerState.COOLDOWN, None, self._job.id)
            self._rest(left)

    def _rest(self, seconds: float) -> None:
        self._heed_operator()
        self._desk.rest(seconds)

    def _heed_operator(self) -> None:
        """Raises Halted when the daemon stops or the job is cancelled."""
        if self._desk.stopping():
            raise Halted(Why.STOP)
        if self._store.cancel_requested(self._job.id):
            raise Halted(Why.CANCEL)


def _of_parts(job: Job, failed: list[Part]) -> Problem:
    """Why a job has failed; of several parts, which."""
    first = job.problem or Problem("part_failed", "It was not delivered.", "")
    if len(job.parts) == 1:
        return first
    which = ", ".join(str(part.index + 1) for part in failed)
    return Problem(
        first.code,
        f"Of {len(job.parts)} parts, {len(failed)} (part {which}) were not delivered: {first.summary}",
        f"{first.advice} `omrwatchd retry` sends only what is missing.".strip(),
    )


def _gave_up(problem: Problem, attempts: int) -> Problem:
    return Problem(
        problem.code,
        f"{problem.summary} {attempts} attempts failed while the server was there.",
        "Look at the server's log for this file; drop the file again to try once more.",
    )
