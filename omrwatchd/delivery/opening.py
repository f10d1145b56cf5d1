"""The job's file, opened and still the one that was queued; its parts as ranged sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omrwatchd.errors import Problem
from omrwatchd.model import Identity, Job, Part, UploadType, file_time
from omrwatchd.sheets.archive import Archive, read_archive
from omrwatchd.sheets.part import VirtualPart
from omrwatchd.sheets.pictures import Pictures, PictureSet, list_pictures
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


class JobFolder:
    """One open descriptor of a folder of pictures."""

    def __init__(self, pictures: Pictures, descriptor: int) -> None:
        self._pictures = pictures
        self._descriptor = descriptor

    def source(self, part: Part) -> PictureSet:
        """The part's pictures, in the order of their names."""
        return PictureSet(self._descriptor, self._pictures.entries[part.first_sheet : part.stop_sheet])


@contextmanager
def opened(job: Job) -> Iterator[JobFile | JobFolder]:
    """Open what the job is about, without following a link.

    Raises:
        FileNotFoundError: it was taken away.
        SourceChanged: it is not what was queued.
        OSError: it can't be read.
    """
    is_folder = job.metadata.upload_type is UploadType.IMAGES
    kind = os.O_DIRECTORY if is_folder else os.O_NONBLOCK
    descriptor = os.open(job.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind)
    try:
        if not holds(job, job.path):
            raise SourceChanged("it was changed while it waited")
        yield JobFolder(list_pictures(job.path), descriptor) if is_folder else JobFile(job, descriptor)
    finally:
        os.close(descriptor)


def holds(job: Job, path: bytes) -> bool:
    """Whether ``path`` holds what the job was made from; a copy of a file has another inode.

    Raises OSError.
    """
    if job.metadata.upload_type is UploadType.IMAGES:
        pictures = list_pictures(path)
        return Identity(pictures.size, pictures.mtime_ns, pictures.digest) == job.identity
    found = os.lstat(path)
    return (found.st_size, file_time(found.st_mtime_ns)) == (job.identity.size, job.identity.mtime_ns)
