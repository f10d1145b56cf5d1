"""The job's file, opened and still the one that was queued; its parts as ranged sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omrwatchd.delivery.faults import Fault, Kind
from omrwatchd.delivery.retry import Failed
from omrwatchd.errors import Problem
from omrwatchd.model import Job, Part
from omrwatchd.sheets.archive import Archive, read_archive
from omrwatchd.sheets.part import VirtualPart
from omrwatchd.sheets.source import FileSource, Source, SourceChanged
from omrwatchd.sheets.split import PartPlan, layout


class JobFile:
    """One open descriptor for all parts of a job and all chunk threads."""

    def __init__(self, job: Job, descriptor: int) -> None:
        self._job = job
        self._descriptor = descriptor
        self._whole = FileSource(descriptor, job.identity.size, job.identity.mtime_ns)
        self._archive: Archive | None = None

    def source(self, part: Part) -> Source:
        """The part's bytes; the same in every run, which resuming depends on.

        Raises:
            SourceChanged: the file does not hold what was queued.
        """
        if part.whole:
            return self._whole
        plan = PartPlan(part.index, part.name, part.first_sheet, part.stop_sheet)
        virtual = VirtualPart(self._whole, layout(self._read_archive(), plan))
        if virtual.size != part.size:
            raise SourceChanged("the file's table of contents was changed while it waited")
        return virtual

    def _read_archive(self) -> Archive:
        if self._archive is None:
            try:
                archive = read_archive(self._descriptor, self._job.name)
            except Problem as problem:
                raise SourceChanged("the file is no whole ZIP any more") from problem
            if archive.fingerprint != self._job.fingerprint:
                raise SourceChanged("the file's table of contents was changed while it waited")
            self._archive = archive
        return self._archive


@contextmanager
def opened(job: Job) -> Iterator[JobFile]:
    """Open the job's file without following a link.

    Raises:
        FileNotFoundError: it was taken away.
        SourceChanged: it is not the one that was queued.
        Failed: it can't be read.
    """
    try:
        descriptor = os.open(job.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failed(_unreadable(job, error)) from error
    try:
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns) != (job.identity.size, job.identity.mtime_ns):
            raise SourceChanged("the file was changed while it waited")
        yield JobFile(job, descriptor)
    finally:
        os.close(descriptor)


def _unreadable(job: Job, error: OSError) -> Fault:
    summary = f"{job.name} can't be read: {error.strerror}."
    return Fault(Kind.FILE, Problem("unreadable", summary, "Check the file's rights, then drop it again."))
