"""The tables. Their history is in migrations/; the invariants are constraints, not sets in memory."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from omrwatchd.model import ACTIVE, Status
from omrwatchd.queue.version import HEAD

__all__ = ["HEAD", "arriving", "chunks", "jobs", "metadata", "parts", "workers"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_STATUSES = ", ".join(f"'{status}'" for status in Status)
_ACTIVE = ", ".join(f"'{status}'" for status in sorted(ACTIVE))

# Times are seconds since the epoch (UTC). Names are bytes as the file system has them, beside a
# display name. An id is never used twice: operators write them down.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("watch", String(60), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("inode", String(20), nullable=False),  # unsigned 64 bits: wider than BIGINT
    Column("upload_type", String(20), nullable=False),
    Column("task_id", Text),
    Column("notes", Text),
    Column("profile_id", BigInteger),
    Column("sheets", Integer, nullable=False),
    Column("fingerprint", String(64)),
    Column("status", String(12), nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("error_code", String(60)),
    Column("error_summary", Text),
    Column("error_advice", Text),
    Column("worker", String(80)),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("0")),
    Column("hidden", Boolean, nullable=False, server_default=text("0")),  # cleared from the list
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("delivered_at", Float),
    Column("finished_at", Float),
    Column("filing_target", LargeBinary),
    Column("filing_problem", Text),
    Column("filed_at", Float),
    Column("summary_at", Float),
    Column("retried_at", Float),
    CheckConstraint(f"status IN ({_STATUSES})", name="status"),
    Index("one_open_row_per_file", "path", unique=True, sqlite_where=text("filed_at IS NULL")),
    Index("one_active_job_per_worker", "worker", unique=True, sqlite_where=text(f"status IN ({_ACTIVE})")),
    Index("jobs_waiting", "priority", "id", sqlite_where=text("status = 'pending'")),
    Index("jobs_unfiled", "id", sqlite_where=text("filed_at IS NULL")),
    Index("jobs_unsummarised", "id", sqlite_where=text("filed_at IS NOT NULL AND summary_at IS NULL")),
    Index("jobs_finished", "finished_at"),
    Index("jobs_listed", "finished_at", sqlite_where=text("finished_at IS NOT NULL AND NOT hidden")),
    Index("jobs_by_path", "path"),
    Index("jobs_fingerprint", "fingerprint"),
    sqlite_autoincrement=True,
)

parts = Table(
    "parts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("sheets", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("first_sheet", Integer, nullable=False),
    Column("stop_sheet", Integer, nullable=False),
    Column("status", String(12), nullable=False),
    Column("upload_id", Text),
    Column("chunk_size", BigInteger),
    Column("edge_chunk_size", BigInteger),
    Column("sessions", Integer, nullable=False, server_default=text("0")),
    Column("final_sent_at", Float),
    Column("batch_id", Text),
    Column("started_at", Float),
    Column("bytes_sent", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint(f"status IN ({_STATUSES})", name="status"),
    Index("one_part_per_index", "job_id", "index", unique=True),
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    Column("part_id", ForeignKey("parts.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("acknowledged_at", Float, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Text, nullable=False),  # clock ticks since boot: tells a reused pid apart
    Column("state", String(12), nullable=False),
    Column("reason", Text),
    Column("since", Float, nullable=False),
    Column("job_id", Integer),
    Column("rate", Float),
    Column("heartbeat", Float, nullable=False),
    Column("cooldown_until", Float),
    Column("paused", Boolean, nullable=False, server_default=text("0")),
    Column("release", Boolean, nullable=False, server_default=text("0")),  # an operator ends the hold
    Column("failures_in_a_row", Integer, nullable=False, server_default=text("0")),
    Column("held_since", Float),
)

arriving = Table(
    "arriving",
    metadata,
    Column("path", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
)
