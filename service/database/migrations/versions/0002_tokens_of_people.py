"""Tokens can be revoked, know their last use, and browser sessions know the token that opened them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("tokens", sa.Column("last_used_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("tokens", sa.Column("parent_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_tokens_parent_id"), "tokens", "tokens", ["parent_id"], ["id"], ondelete="CASCADE")
    op.create_index(
        "ix_tokens_parent_id", "tokens", ["parent_id"], unique=False, postgresql_where=sa.text("parent_id IS NOT NULL")
    )
    # Until now only browser sessions expired. Whose they are is not known, so people sign in once more.
    op.execute("DELETE FROM tokens WHERE expires_at IS NOT NULL")
