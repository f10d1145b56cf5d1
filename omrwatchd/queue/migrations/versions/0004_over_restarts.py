"""Since when a job that was queued again waits, and since when the queue is held, over restarts"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retried_at", sa.Float(), nullable=True))
    op.add_column("workers", sa.Column("held_since", sa.Float(), nullable=True))
