"""A database has one admin token of its own: which it is, and where it was put."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("admin_token_id", sa.BigInteger(), nullable=True))
    op.add_column("installation", sa.Column("admin_token_place", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("installation", "admin_token_place")
    op.drop_column("installation", "admin_token_id")
