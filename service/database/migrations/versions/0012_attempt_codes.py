"""A job is started with a code, and its attempt has no token before the job's driver has shown that it is one."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("attempts", "token_hash", nullable=True)
    op.add_column("attempts", sa.Column("code_hash", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("codes_refused", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("attempts", "codes_refused")
    op.drop_column("attempts", "code_hash")
    op.execute("UPDATE attempts SET token_hash = sha256(gen_random_uuid()::text::bytea) WHERE token_hash IS NULL")
    op.alter_column("attempts", "token_hash", nullable=False)
