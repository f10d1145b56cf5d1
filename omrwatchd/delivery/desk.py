"""The worker's desk: what it works with, and what those who work for it may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omrwatchd.clock import Clock
from omrwatchd.delivery.closing import Closing
from omrwatchd.delivery.filing import Away
from omrwatchd.delivery.processing import ProcessingGate
from omrwatchd.delivery.upload import Road
from omrwatchd.model import WorkerState
from omrwatchd.queue.store import Store
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings


@dataclass(frozen=True, slots=True)
class Tools:
    """What the worker works with."""

    settings: Settings
    store: Store
    row: WorkerRow
    road: Road
    gate: ProcessingGate
    closing: Closing
    clock: Clock
    away: Away = lambda _watch, _look: None


@dataclass(frozen=True, slots=True)
class Desk:
    """What a delivery needs of the worker that does it."""

    stopping: Callable[[], bool]
    """Asked between two steps, which is a sign of life."""
    asked_to_stop: Callable[[], bool]
    """The same, and no sign."""
    sign: Callable[[], None]
    """The upload advances."""
    show: Callable[[WorkerState, str | None, int | None], None]
    rest: Callable[[float], None]
    """Until woken, until the queue was written to, or for so many seconds."""
    uploading: Callable[[Callable[[], bool] | None], None]
    """While something is sent that a stop must end with care: whether its last answer is awaited."""
    delivered: Callable[[], None]
    """A batch was made: the way is good."""
    cool_down: Callable[[], None]
    """A batch is done with: the next one waits for a while."""
