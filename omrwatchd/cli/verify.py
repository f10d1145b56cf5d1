"""`omrwatchd summary --verify DIR`: may these scans be shredded?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.errors import Problem
from omrwatchd.model import Job, Status, display_name
from omrwatchd.queue.views import Views
from omrwatchd.sheets.archive import read_archive
from omrwatchd.sheets.entry import is_picture
from omrwatchd.sheets.pictures import PictureSet, list_pictures
from omrwatchd.sheets.source import SourceChanged


@dataclass(frozen=True, slots=True)
class Finding:
    """A ZIP, or a folder of loose pictures: its sheets, and the job that delivered exactly these."""

    path: str
    sheets: int
    job: Job | None
    reason: str = ""

    @property
    def words(self) -> str:
        if self.job is None:
            return f"MISSING  {self.path}: {self.reason}"
        batches = ", ".join(self.job.batch_ids)
        return f"ok       {self.path}: {self.sheets} sheets, delivered as {self.job.name} (batch {batches})"


def verify(views: Views, folder: Path) -> bool:
    """Print the report; whether all sheets below ``folder`` are in delivered batches. No link is followed.

    Raises:
        Problem: ``usage_folder``: it is no folder.
    """
    if not os.path.isdir(folder):
        raise Problem("usage_folder", f"{folder} is no folder.", "Name the folder that holds the ZIPs.")
    findings = []
    for finding in _findings(views, os.fsencode(folder)):
        print(finding.words)
        findings.append(finding)
    missing = sum(finding.job is None for finding in findings)
    if not findings:
        print(f"There is no ZIP under {folder}: nothing is verified.")
    elif missing:
        print(f"{missing} of {len(findings)} ZIPs are NOT delivered: keep them.")
    else:
        sheets = sum(finding.sheets for finding in findings)
        print(f"All {len(findings)} ZIPs with {sheets} sheets are delivered: safe to shred.")
    return bool(findings) and not missing


def _findings(views: Views, top: bytes) -> Iterator[Finding]:
    unreadable: list[Finding] = []

    def note(error: OSError) -> None:
        path = display_name(os.path.relpath(os.fsencode(error.filename), top))
        unreadable.append(Finding(path, 0, None, f"this folder can't be read ({error.strerror})"))

    for place, folders, names in os.walk(top, onerror=note):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(b".zip"):
                path = os.path.join(place, name)
                yield _look(views, path, display_name(os.path.relpath(path, top)))
        if any(map(is_picture, names)):
            yield _look(views, place, display_name(os.path.relpath(place, top)) + os.sep)
    yield from unreadable


def _look(views: Views, path: bytes, shown: str) -> Finding:
    try:
        sheets, fingerprint = _read(path, os.path.basename(shown))
    except OSError as error:
        return Finding(shown, 0, None, f"it can't be read ({error.strerror})")
    except SourceChanged:
        return Finding(shown, 0, None, "it is being changed")
    except Problem as problem:
        return Finding(shown, 0, None, problem.summary)
    job = views.known(fingerprint)
    if job is not None and _is_delivered(job):
        return Finding(shown, sheets, job)
    return Finding(shown, sheets, None, _why_not(job, sheets))


def _read(path: bytes, name: str) -> tuple[int, str]:
    """Sheets and fingerprint. Raises OSError, Problem or SourceChanged."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            entries = list_pictures(path).entries
            return len(entries), PictureSet(descriptor, entries).fingerprint()
        archive = read_archive(descriptor, name)
        return archive.sheets, archive.fingerprint
    finally:
        os.close(descriptor)


def _is_delivered(job: Job) -> bool:
    """Each of its sheets is in a batch, and the server has taken it over."""
    every = bool(job.parts) and all(part.batch_id is not None for part in job.parts)
    return job.status is Status.COMPLETED and every


def _why_not(job: Job | None, sheets: int) -> str:
    if job is None:
        return f"its {sheets} sheets are in no delivered batch"
    if job.status is Status.COMPLETED or job.problem is not None:
        reason = "not each of its parts is a batch" if job.problem is None else job.problem.summary
        return f"it is not delivered (id {job.id}): {reason}"
    return f"its delivery is not complete (id {job.id} is {job.status})"
