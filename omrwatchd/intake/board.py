"""`_omrwatchd-status.txt`: for people who have nothing but the folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from omrwatchd.clock import Clock, local_time
from omrwatchd.model import ACTIVE, Arriving, Job, Status, WorkerState, display_name
from omrwatchd.queue.database import Changes
from omrwatchd.queue.views import Snapshot, Views, bytes_sent
from omrwatchd.settings import Watch

NAME = b"_omrwatchd-status.txt"
PARTIAL = b"." + NAME + b".tmp"
BUSY_SECONDS = 5.0
"""How often it is looked at while anything goes on."""
_LISTED = 20
_WORDS = {
    WorkerState.IDLE: "ready, nothing to upload",
    WorkerState.PROCESSING: "the server is busy with earlier sheets; waiting for it",
    WorkerState.COOLDOWN: "a short pause for the server",
    WorkerState.PAUSED: "paused by an operator",
    WorkerState.STOPPED: "stopped",
}


def board_text(
    snapshot: Snapshot, arriving: Sequence[tuple[bytes, Arriving]], today: Sequence[Job], watch: Watch
) -> str:
    """What the board of one drop folder says, but for its time. Times are the machine's local ones.

    ``arriving`` is what arrives in this folder, with paths below it; ``snapshot`` and ``today`` are of all.
    """
    mine = [job for job in snapshot.jobs if job.watch == watch.name]
    waiting = [job for job in mine if job.status is Status.PENDING]
    ended = [job for job in today if job.watch == watch.name]
    failed = [job for job in ended if job.status is not Status.COMPLETED]
    lines = [f"Now: {_now(snapshot)}", ""]
    lines += _listed("Arriving", [f"{display_name(path)}: {file.why}" for path, file in arriving])
    lines += _listed("Waiting", [job.name for job in waiting])
    lines += [f"Delivered today: {len(ended) - len(failed)}", f"Failed today: {len(failed)}"]
    lines += [f"  {job.name}: {job.problem.summary if job.problem else ''}" for job in failed[-_LISTED:]]
    if failed:
        lines.append(f"Failed files lie in {watch.failed_folder}, each with a text that says what to do.")
    return "".join(f"{_printable(line)}\n" for line in lines)


def _printable(line: str) -> str:
    """One line, whatever a server or a file's name put into it."""
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _now(snapshot: Snapshot) -> str:
    worker = snapshot.worker
    if worker.state is WorkerState.HELD or (worker.state is WorkerState.UPLOADING and worker.reason):
        return f"waiting, nothing is lost: {worker.reason}"
    active = next((job for job in snapshot.jobs if job.status in ACTIVE), None)
    if active is not None and worker.state is WorkerState.UPLOADING:
        share = bytes_sent(active) / max(1, active.identity.size)
        return f"uploading {active.name}, {share:.0%}"
    return _WORDS.get(worker.state, str(worker.state))


def _listed(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  … and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return [f"{title}: {len(lines)}", *(f"  {line}" for line in lines[:_LISTED]), *more, ""]


class Boards:
    """Keeps the boards of all drop folders that want one."""

    def __init__(self, watches: Sequence[Watch], views: Views, changes: Changes, clock: Clock) -> None:
        self._watches = [watch for watch in watches if watch.status_board]
        self._views = views
        self._changes = changes
        self._clock = clock
        self._shown: tuple[float, frozenset[str]] | None = None
        self._told: dict[str, str] = {}
        self._due = 0.0
        self._busy = False  # it changes without a scan: an upload goes on
        self._stale = False  # it was to be refreshed too soon after the last time

    def refresh(self, lost: Collection[str] = ()) -> None:
        """Bring the boards up to date where something has changed.

        ``lost``: names of the watches whose folder is away: what stands in its place gets no board.
        """
        if not self._watches:
            return
        self._stale = self._clock.monotonic() < self._due
        if self._stale:
            return
        self._due = self._clock.monotonic() + BUSY_SECONDS
        state = (_midnight(self._clock.now()), frozenset(lost))
        if self._changes.seen() or self._shown != state:
            self._shown = state if self._show(self._views.snapshot(), lost) else None

    def close(self, lost: Collection[str] = ()) -> None:
        """The daemon stops: the boards say so."""
        if self._watches:
            snapshot = self._views.snapshot()
            stopped = replace(snapshot.worker, state=WorkerState.STOPPED)
            self._show(replace(snapshot, worker=stopped), lost)

    def _show(self, snapshot: Snapshot, lost: Collection[str]) -> bool:
        """Whether every board is written that should be."""
        today = self._views.finished(_midnight(self._clock.now()))
        open_jobs = any(job.status in (Status.PENDING, *ACTIVE) for job in snapshot.jobs)
        active = snapshot.worker.state not in (WorkerState.IDLE, WorkerState.STOPPED)
        self._busy = open_jobs or active or bool(snapshot.arriving)
        all_told = True
        for watch in self._watches:
            arriving = self._views.arriving_below(os.fsencode(watch.drop))
            text = board_text(snapshot, arriving, today, watch)
            if watch.name in lost or self._told.get(watch.name) == text:
                continue
            if self._write(watch, text):
                self._told[watch.name] = text
            else:
                all_told = False
        return all_told

    def wait(self) -> float | None:
        """Seconds until it should be looked at again; None when nothing can have changed."""
        return max(0.0, self._due - self._clock.monotonic()) if self._busy or self._stale else None

    def _write(self, watch: Watch, text: str) -> bool:
        folder = os.fsencode(watch.drop)
        when = local_time(self._clock.now())
        whole = f"omrwatchd: what happens to the files in this folder ({when})\n\n{text}"
        try:
            _replace(folder, as_windows_reads(whole))
        except OSError:
            return False  # the folder is away or full: intake tells that, and the board is tried again
        return True


def as_windows_reads(text: str) -> bytes:
    """UTF-8 with its mark and CRLF: whoever opens it does so with Notepad, of whatever year, over a share."""
    return text.replace("\n", "\r\n").encode("utf-8-sig", "backslashreplace")


def _replace(folder: bytes, content: bytes) -> None:
    """Put a new board in the old one's place at once, whole or not at all; no link of others is followed."""
    partial = os.path.join(folder, PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            # whoever may look into the folder may read it, whatever the daemon's umask
            os.fchmod(descriptor, 0o600 | (os.stat(folder).st_mode & 0o066))
            while content:  # a disk that is nearly full takes a part of it, and refuses at the next
                content = content[file.write(content) or 0 :]
        os.rename(partial, os.path.join(folder, NAME))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _midnight(now: float) -> float:
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
