"""How long it takes: the rate while there is one, and the one before while there is none."""

from __future__ import annotations

from omrwatchd.model import Status, WorkerState
from omrwatchd.queue.views import Overview, bytes_sent

_SMOOTHING = 0.05
"""Of each new picture: a time left that jumps tells nobody anything."""
_MOVING = frozenset({WorkerState.UPLOADING, WorkerState.COOLDOWN, WorkerState.IDLE})


class Pace:
    """Remembers from picture to picture."""

    def __init__(self, cooldown_seconds: float, now: float) -> None:
        self._cooldown = cooldown_seconds
        self._rate: float | None = None
        self.since = now
        """When the present rush began (seconds since the epoch): the bar of the queue counts from there."""

    def see(self, overview: Overview, now: float) -> None:
        rate = overview.worker.rate
        if rate and overview.worker.state is WorkerState.UPLOADING:
            self._rate = rate if self._rate is None else self._rate + _SMOOTHING * (rate - self._rate)
        if not overview.active and overview.backlog.files == 0:
            self.since = now

    def file_left(self, missing: int, parts: int) -> float | None:
        """Seconds for so many bytes in so many batches, with the pauses between; None: nobody knows."""
        return missing / self._rate + self._cooldown * max(0, parts - 1) if self._rate else None

    def queue_left(self, overview: Overview) -> float | None:
        """Seconds for all that is queued, with the pauses between; None while nothing moves."""
        if overview.worker.state not in _MOVING or not self._rate:
            return None
        pauses = overview.worker.cooldown_left + self._cooldown * max(0, _batches_left(overview) - 1)
        return bytes_left(overview) / self._rate + pauses


def files_left(overview: Overview) -> int:
    return len(overview.active) + overview.backlog.files


def _batches_left(overview: Overview) -> int:
    """Each is followed by a cooldown; of what waits, a file is taken for one."""
    owed = [part for job in overview.active for part in job.parts if part.status is not Status.ERROR]
    return sum(part.batch_id is None for part in owed) + overview.backlog.files


def bytes_left(overview: Overview) -> int:
    active = sum(max(0, job.identity.size - bytes_sent(job)) for job in overview.active)
    return active + max(0, overview.backlog.size - overview.backlog.sent)


def bytes_in_all(overview: Overview) -> int:
    """Of the present rush: what has ended since it began, and what is queued."""
    active = sum(job.identity.size for job in overview.active)
    return active + overview.backlog.size + overview.ended_since.size


def duration(seconds: float) -> str:
    """As people say it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 2 * 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 86400} days"
