"""The size of an upload's first and last chunk, kept so that it is the same after a restart"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("parts", sa.Column("edge_chunk_size", sa.BigInteger(), nullable=True))
