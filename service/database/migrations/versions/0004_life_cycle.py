"""Life cycle and queue: history of transitions, retries forgiven, priority, turns."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("experiments", sa.Column("forgiven", sa.Integer(), server_default="0", nullable=False))
    op.add_column("experiments", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("experiments", sa.Column("queued_at", _TIME, server_default=sa.text("now()"), nullable=False))
    op.execute("UPDATE experiments SET queued_at = created_at")
    op.create_index(
        "ix_experiments_queue",
        "experiments",
        ["owner", "priority", "id"],
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.add_column("attempts", sa.Column("started_at", _TIME, nullable=True))
    op.add_column("attempts", sa.Column("refused_at", _TIME, nullable=True))
    op.create_table(
        "transitions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("at", _TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_transitions_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    op.create_index("ix_transitions_experiment_id", "transitions", ["experiment_id", "id"])
    # The first schema wrote them into the event stream, without the attempt's number.
    op.execute("""
        INSERT INTO transitions (experiment_id, at, source, target, "by", reason, attempt)
        SELECT experiment_id, at, payload ->> 'from', payload ->> 'state', payload ->> 'by', payload ->> 'reason', 0
        FROM events WHERE kind = 'experiment' AND payload ? 'by' ORDER BY experiment_id, seq
    """)
    op.create_table(
        "queue_turns",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("owner", "priority", name=op.f("pk_queue_turns")),
    )
