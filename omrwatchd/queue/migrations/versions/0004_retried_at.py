"""When a job was last queued again: how long it waits is counted from then"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retried_at", sa.Float(), nullable=True))
