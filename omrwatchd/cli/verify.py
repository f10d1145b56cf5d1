"""`omrwatchd summary --verify DIR`: may these scans be shredded?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.errors import Problem
from omrwatchd.model import Job, display_name
from omrwatchd.queue.views import Views
from omrwatchd.sheets.archive import read_archive


@dataclass(frozen=True, slots=True)
class Finding:
    """One ZIP: how many sheets it has, and the job that delivered exactly these, if one did."""

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
    """Print the report; whether every ZIP below ``folder`` is delivered with each of its sheets.

    Raises:
        Problem: ``usage_folder``: it is no folder that can be read.
    """
    if not folder.is_dir():
        raise Problem("usage_folder", f"{folder} is no folder.", "Name the folder that holds the ZIPs.")
    findings = [_look(views, path) for path in _zips(os.fsencode(folder))]
    for finding in findings:
        print(finding.words)
    missing = [finding for finding in findings if finding.job is None]
    sheets = sum(finding.sheets for finding in findings)
    if not findings:
        print(f"There is no ZIP under {folder}: nothing is verified.")
    elif missing:
        print(f"{len(missing)} of {len(findings)} ZIPs are NOT delivered: keep them.")
    else:
        print(f"All {len(findings)} ZIPs with {sheets} sheets are delivered: safe to shred.")
    return bool(findings) and not missing


def _zips(folder: bytes) -> Iterator[bytes]:
    """Every ZIP by its name, and every folder that could not be looked into."""

    def unreadable(error: OSError) -> None:
        raise Problem(
            "unreadable", f"{display_name(os.fsencode(error.filename))} can't be read: {error.strerror}.", ""
        )

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(b".zip"):
                yield os.path.join(place, name)


def _look(views: Views, path: bytes) -> Finding:
    shown = display_name(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            archive = read_archive(descriptor, os.path.basename(shown))
        finally:
            os.close(descriptor)
    except OSError as error:
        return Finding(shown, 0, None, f"it can't be read ({error.strerror})")
    except Problem as problem:
        return Finding(shown, 0, None, problem.summary)
    job = views.delivered(archive.fingerprint)
    reason = "" if job is not None else f"its {archive.sheets} sheets are in no delivered batch"
    return Finding(shown, archive.sheets, job, reason)
