"""Indexes that keep a long history from costing anything"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(
        "jobs_listed",
        "jobs",
        ["finished_at"],
        sqlite_where=sa.text("finished_at IS NOT NULL AND NOT hidden"),
    )
    op.create_index("jobs_by_path", "jobs", ["path"])
