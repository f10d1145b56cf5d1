"""What the core announces: facts, as frozen values. Logs, systemd's status text and progress listen.

The log's event name is the class's name in snake_case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    level: ClassVar[str] = "info"

    @classmethod
    def title(cls) -> str:
        """The stable name of the event in the log, e.g. ``chunk_acknowledged``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


Announce = Callable[[Event], None]


class Hooks:
    """Hands every event to every listener, in order, on the announcing thread."""

    def __init__(self, listeners: Iterable[Announce] = ()) -> None:
        self._listeners = list(listeners)

    def add(self, listener: Announce) -> None:
        self._listeners.append(listener)

    def remove(self, listener: Announce) -> None:
        self._listeners = [each for each in self._listeners if each != listener]

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


# the daemon


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    version: str
    queue: str
    watches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """A SIGHUP, and the configuration is good: what was under way goes on under the new one."""

    file: str
    queue: str
    watches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRefused(Event):
    """A SIGHUP, and the configuration is wrong: the old one stays in effect."""

    level: ClassVar[str] = "error"
    file: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class ThreadSilent(Event):
    """No sign of life for longer than any step should take: systemd's watchdog is fed no more."""

    level: ClassVar[str] = "critical"
    thread: str
    seconds: float
    stack: str


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    reason: str


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    exit_code: int


@dataclass(frozen=True, slots=True)
class ThreadDied(Event):
    level: ClassVar[str] = "critical"
    thread: str
    error: str


# intake


@dataclass(frozen=True, slots=True)
class DropFolderLost(Event):
    level: ClassVar[str] = "warning"
    watch: str
    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class DropFolderBack(Event):
    watch: str
    folder: str


@dataclass(frozen=True, slots=True)
class DropFolderRemounted(Event):
    """Another file system holds the folder than before: it is taken as the drop folder."""

    watch: str
    folder: str


@dataclass(frozen=True, slots=True)
class HintsUnavailable(Event):
    """Only rescans notice files in this folder."""

    level: ClassVar[str] = "warning"
    watch: str
    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileArriving(Event):
    level: ClassVar[str] = "debug"
    watch: str
    file: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FileStillGrowing(Event):
    level: ClassVar[str] = "warning"
    watch: str
    file: str
    bytes: int
    minutes: int


@dataclass(frozen=True, slots=True)
class FileUnreadable(Event):
    level: ClassVar[str] = "warning"
    watch: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileQueued(Event):
    job: int
    file: str
    bytes: int
    sheets: int
    parts: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FileRefused(Event):
    level: ClassVar[str] = "error"
    job: int
    file: str
    bytes: int
    code: str
    error: str


# delivery


@dataclass(frozen=True, slots=True)
class UploadStarted(Event):
    job: int
    file: str
    part: int
    bytes: int
    chunks: int
    resumed_chunks: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ChunkAcknowledged(Event):
    level: ClassVar[str] = "debug"
    job: int
    part: int
    chunk: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChunkRetried(Event):
    level: ClassVar[str] = "warning"
    job: int
    part: int
    chunk: int
    attempt: int
    wait: float
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class ServerSlowedDown(Event):
    level: ClassVar[str] = "warning"
    wait: float


@dataclass(frozen=True, slots=True)
class UploadRestarted(Event):
    """The server forgot this upload, or wants smaller chunks: the part begins again at chunk 0."""

    level: ClassVar[str] = "warning"
    job: int
    part: int
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class UploadFailed(Event):
    level: ClassVar[str] = "error"
    job: int
    file: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class UploadSuspended(Event):
    """The job went back to the queue, its acknowledged chunks kept."""

    job: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceChanged(Event):
    level: ClassVar[str] = "warning"
    job: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class BatchCreated(Event):
    job: int
    file: str
    part: int
    batch: str
    bytes: int
    seconds: float
    sheets: int = 0


@dataclass(frozen=True, slots=True)
class ProcessingStarted(Event):
    job: int
    batch: str


@dataclass(frozen=True, slots=True)
class ProcessingBusy(Event):
    job: int
    batch: str
    state: str


@dataclass(frozen=True, slots=True)
class QueueHeld(Event):
    level: ClassVar[str] = "error"
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class QueueReleased(Event):
    held_seconds: float


@dataclass(frozen=True, slots=True)
class FileCompleted(Event):
    job: int
    file: str
    batches: tuple[str, ...]
    bytes: int
    sheets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FileFailed(Event):
    level: ClassVar[str] = "error"
    job: int
    file: str
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class FileAborted(Event):
    level: ClassVar[str] = "warning"
    job: int
    file: str
    error: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class FileFiled(Event):
    job: int
    file: str
    target: str


@dataclass(frozen=True, slots=True)
class FilingDelayed(Event):
    level: ClassVar[str] = "error"
    job: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class SummaryDelayed(Event):
    level: ClassVar[str] = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class CooldownStarted(Event):
    level: ClassVar[str] = "debug"
    seconds: float


# ops


@dataclass(frozen=True, slots=True)
class MetricsServed(Event):
    address: str


@dataclass(frozen=True, slots=True)
class Silence(Event):
    """Nothing has arrived for too long; told once, until the next file."""

    level: ClassVar[str] = "warning"
    minutes: float


@dataclass(frozen=True, slots=True)
class NotifySent(Event):
    level: ClassVar[str] = "debug"
    about: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NotifyFailed(Event):
    level: ClassVar[str] = "error"
    about: str
    reason: str


@dataclass(frozen=True, slots=True)
class FilePruned(Event):
    """A delivered file was deleted from done/ because of its age."""

    job: int
    file: str
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FileKept(Event):
    """A file in done/ is old enough to go, and is not, or not only, what was filed there."""

    level: ClassVar[str] = "warning"
    job: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class HistoryPruned(Event):
    deleted: int
    shortened: int


@dataclass(frozen=True, slots=True)
class RetentionDelayed(Event):
    level: ClassVar[str] = "warning"
    reason: str
