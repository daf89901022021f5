"""Running trials are found without looking at all others, at every scrape."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_trials_running", "trials", ["id"], postgresql_where=sa.text("state = 'running'"))


def downgrade() -> None:
    op.drop_index("ix_trials_running", "trials")
