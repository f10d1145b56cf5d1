"""Files that wait in the queue: gone or replaced ones are noticed at a scan, not only at their turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from omrwatchd import events
from omrwatchd.events import Announce
from omrwatchd.intake.scan import Found
from omrwatchd.model import IllegalMove, Job, Status
from omrwatchd.queue.store import Store, WaitingFile, gone
from omrwatchd.settings import Watch


class QueuedFiles:
    """The queued files of one drop folder; used on the intake thread alone."""

    def __init__(
        self, watch: Watch, store: Store, announce: Announce, sorts_otherwise: Callable[[Job], bool]
    ) -> None:
        self._watch = watch
        self._store = store
        self._announce = announce
        self._sorts_otherwise = sorts_otherwise
        self._missing: dict[int, float] = {}
        self._besides: dict[int, int] = {}
        """The states of sidecars that were compared with what is queued."""

    @property
    def any_waiting(self) -> bool:
        """Whether files of the folder should be there."""
        return bool(self._store.waiting_files(self._watch.name, os.fsencode(self._watch.drop)))

    def check(self, found: Mapping[bytes, Found], now: float, patience: float) -> int:
        """Compare them with what a scan found; how many jobs were ended.

        ``now`` and ``patience`` are in seconds: programs that save by deleting and renaming leave a gap.
        """
        ended = 0
        missing: dict[int, float] = {}
        known, self._besides = self._besides, {}
        for waiting in self._store.waiting_files(self._watch.name, os.fsencode(self._watch.drop)):
            here = found.get(waiting.path)
            if waiting.was_reset:
                if _is_another(here, waiting) or _is_gone(waiting.path):
                    self._store.let_go(waiting.id)
            elif here is not None:
                if _is_another(here, waiting):
                    self._withdraw(self._store.job(waiting.id), "it was replaced while it waited")
                elif here.beside:
                    self._besides[waiting.id] = here.beside
                    if known.get(waiting.id) != here.beside:
                        self._heed_sidecar(waiting.id)
            elif _is_gone(waiting.path):
                since = self._missing.get(waiting.id, now)
                if now - since >= patience:
                    ended += self._end(self._store.job(waiting.id))
                else:
                    missing[waiting.id] = since
        self._missing = missing
        return ended

    def dues(self, patience: float) -> list[float]:
        """When a look tells whether a missing file is gone for good (monotonic seconds)."""
        return [since + patience for since in self._missing.values()]

    def _heed_sidecar(self, job_id: int) -> None:
        """A sidecar that comes, or is corrected, while its file waits still says where the file belongs."""
        job = self._store.job(job_id)
        if job.started_at is None and self._sorts_otherwise(job):
            self._withdraw(job, "its sidecar came, or was changed, while it waited")

    def _withdraw(self, job: Job, reason: str) -> None:
        """The queue forgets it, and it settles anew."""
        if job.batch_ids or job.in_doubt:
            return  # something of it is, or may be, delivered: the worker says so at its turn
        try:
            self._store.withdraw(job)
        except IllegalMove:
            return  # its turn has come meanwhile: the worker sees it
        self._announce(events.SourceChanged(job.id, job.name, reason))

    def _end(self, job: Job) -> int:
        try:
            self._store.end(job, Status.ABORTED, gone(job))
        except IllegalMove:
            return 0
        self._announce(events.FileAborted(job.id, job.name, gone(job).summary, gone(job).code))
        return 1


def _is_another(here: Found | None, waiting: WaitingFile) -> bool:
    """Whether what lies there now is not what was queued."""
    if here is None:
        return False
    return (here.size, here.mtime_ns) != (waiting.identity.size, waiting.identity.mtime_ns)


def _is_gone(path: bytes) -> bool:
    """Surely: a folder that can't be read, or a share that answers with an error, tells nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
