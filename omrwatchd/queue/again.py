"""Whether a failed or cancelled job may be tried again as it is."""

from __future__ import annotations

import os

from omrwatchd.errors import Problem
from omrwatchd.model import Job, Status, display_name

_OVERRULED = frozenset({"duplicate", "sheets_differ"})
"""Refusals of intake that an operator may know better about."""


def check_again(job: Job, *, force: bool) -> None:
    """Refuse what could only fail, or be delivered wrongly: intake has refused it, or its file is gone.

    Raises:
        Problem: ``not_now``, or ``needs_force``.
    """
    if job.status is Status.ERROR and job.started_at is None and job.problem is not None:
        _check_refused(job, job.problem, force=force)
    if job.delivered_at is None and _is_gone(job.path):
        where = display_name(os.path.dirname(job.path))
        summary = f"{job.name} can't be tried again: it is not in {where} any more."
        raise Problem("not_now", summary, "Drop it into the drop folder if it should be delivered.")


def _check_refused(job: Job, problem: Problem, *, force: bool) -> None:
    """Never queued: what intake found is still so, and the sidecar is read only when a file is dropped."""
    if problem.code not in _OVERRULED:
        advice = f"{problem.advice.rstrip('.')}; then drop it into the drop folder again."
        raise Problem("not_now", f"{job.name} can't be tried again as it is: {problem.summary}", advice)
    if problem.code == "sheets_differ" and not force:
        raise Problem("needs_force", problem.summary, "If it is to be delivered all the same, use --force.")


def _is_gone(path: bytes) -> bool:
    """Surely not there; what we may not look at, the daemon may."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False
