"""Attempts know where the kept end of their log begins."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("log_start", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("attempts", "log_start")
