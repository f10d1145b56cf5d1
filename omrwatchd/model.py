"""The words of the house: jobs, parts, and every legal change of their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from omrwatchd.errors import Problem


class Status(StrEnum):
    """What users see of a job or a part. Stored as these words."""

    PENDING = "pending"
    UPLOADING = "uploading"
    PROCESSING = "processing"
    COMPLETED = "completed"
    ERROR = "error"
    ABORTED = "aborted"


class UploadType(StrEnum):
    """The server's `upload_type` field (API.md, Upload types)."""

    ZIP_WITH_QR = "zip_with_qr"
    ZIP_NO_QR = "zip_no_qr"
    IMAGES = "images"

    @property
    def needs_task_id(self) -> bool:
        return self is not UploadType.ZIP_WITH_QR


class WorkerState(StrEnum):
    """What the daemon is doing, as `status` shows it."""

    IDLE = "idle"
    UPLOADING = "uploading"
    PROCESSING = "processing"
    COOLDOWN = "cooldown"
    HELD = "held"
    PAUSED = "paused"
    STOPPED = "stopped"


MOVES: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.PENDING: frozenset({Status.UPLOADING, Status.ERROR, Status.ABORTED}),
        # back to pending: an outage, a stop, a changed source; nothing acknowledged is lost by it
        Status.UPLOADING: frozenset(
            {Status.PENDING, Status.PROCESSING, Status.COMPLETED, Status.ERROR, Status.ABORTED}
        ),
        # to uploading: the next part of a split file
        Status.PROCESSING: frozenset(
            {Status.UPLOADING, Status.PENDING, Status.COMPLETED, Status.ERROR, Status.ABORTED}
        ),
        Status.COMPLETED: frozenset(),
        # an operator's retry
        Status.ERROR: frozenset({Status.PENDING}),
        Status.ABORTED: frozenset({Status.PENDING}),
    }
)
"""Every legal change of a status; anything else is a mistake of ours."""

OUTCOME_UNKNOWN = "outcome_unknown"
"""The code of what may be a batch on the server: only people may have it sent again."""

_TIMES = 1 << 63
"""Nanoseconds; file systems go further, an integer of the database does not."""

ACTIVE = frozenset({Status.UPLOADING, Status.PROCESSING})
FINAL = frozenset({Status.COMPLETED, Status.ERROR, Status.ABORTED})


class IllegalMove(RuntimeError):
    """A change of state that MOVES does not know, or that another hand made first."""


def check_move(old: Status, new: Status) -> None:
    """Raise IllegalMove unless MOVES has it."""
    if new not in MOVES[old]:
        raise IllegalMove(f"{old} -> {new}")


def state_diagram() -> str:
    """MOVES as a Mermaid state diagram; docs/ARCHITECTURE.md shows exactly this text."""
    lines = ["stateDiagram-v2", "    [*] --> pending: admitted", "    [*] --> error: refused by intake"]
    lines += [f"    {old} --> {new}" for old, targets in MOVES.items() for new in Status if new in targets]
    lines += [f"    {status} --> [*]" for status in Status if not MOVES[status]]
    return "\n".join(lines)


def display_name(name: bytes) -> str:
    """A file's name as text that any log and terminal can bear: no control characters, valid UTF-8."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_time(mtime_ns: int) -> int:
    """A file's time of change as the queue can keep it: beyond 64 bits (the year 2262) the last moment."""
    return max(-_TIMES, min(mtime_ns, _TIMES - 1))


@dataclass(frozen=True, slots=True)
class Identity:
    """Which content a path held when it was looked at.

    A file's are its fstat fields; a folder of pictures has their bytes, the youngest time, and a digest of
    all names, sizes and times in place of the inode.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    """As file_time gives it."""
    inode: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the server is told beside the file; None is left out of the request."""

    upload_type: UploadType = UploadType.ZIP_WITH_QR
    task_id: str | None = None
    notes: str | None = None
    profile_id: int | None = None


@dataclass(frozen=True, slots=True)
class NewPart:
    """A batch to be made from a job's file.

    ``first_sheet`` and ``stop_sheet`` are a half-open range over the sheets in the order of the central
    directory; ``whole`` means that the file is sent as it is.
    """

    name: str
    sheets: int
    size: int
    whole: bool = True
    first_sheet: int = 0
    stop_sheet: int = 0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A dropped file as intake hands it to the queue."""

    path: bytes
    name: str
    watch: str
    identity: Identity
    metadata: Metadata = Metadata()
    sheets: int = 0
    fingerprint: str | None = None
    parts: tuple[NewPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A row of `parts`."""

    id: int
    job_id: int
    index: int
    name: str
    sheets: int
    size: int
    whole: bool
    first_sheet: int
    stop_sheet: int
    status: Status
    upload_id: str | None
    chunk_size: int | None
    """Bytes; what this upload session was begun with. None: no session yet."""
    edge_chunk_size: int | None
    """Bytes of the first and the last chunk of this session. None: they are as the others."""
    sessions: int
    """How often the server has forgotten this part's upload."""
    final_sent_at: float | None
    """When the last request was about to go out; set without a batch_id: the outcome is unknown."""
    batch_id: str | None
    started_at: float | None
    """When the server accepted to process this batch."""
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`, with its parts."""

    id: int
    path: bytes
    """Where the file is now: in the drop folder until it is filed, then under done/ or failed/."""
    name: str
    watch: str
    identity: Identity
    metadata: Metadata
    sheets: int
    fingerprint: str | None
    status: Status
    attempts: int
    """Uploads begun, outages not counted."""
    failures: int
    """Attempts that failed while the server was there; queue.max_attempts of them fail the file."""
    problem: Problem | None
    created_at: float
    started_at: float | None
    delivered_at: float | None
    finished_at: float | None
    filed_at: float | None
    filing_target: bytes | None
    filing_problem: str | None
    summary_at: float | None
    cancel_requested: bool
    parts: tuple[Part, ...]

    @property
    def in_doubt(self) -> bool:
        """Whether a batch that nobody has confirmed may exist: a last answer is still owed."""
        return any(part.final_sent_at is not None and part.batch_id is None for part in self.parts)

    @property
    def batch_ids(self) -> tuple[str, ...]:
        return tuple(part.batch_id for part in self.parts if part.batch_id is not None)


@dataclass(frozen=True, slots=True)
class Arriving:
    """A file in a drop folder that is not queued yet, and why."""

    name: str
    size: int
    why: str
