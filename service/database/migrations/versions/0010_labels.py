"""Lists show labels without reading specs, and count trials by state without reading trials."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    labels = sa.Computed("coalesce(spec -> 'labels', '{}'::jsonb)", persisted=True)
    op.add_column("experiments", sa.Column("labels", postgresql.JSONB(), labels, nullable=False))
    op.create_index("ix_trials_states", "trials", ["experiment_id", "state"])


def downgrade() -> None:
    op.drop_index("ix_trials_states", "trials")
    op.drop_column("experiments", "labels")
