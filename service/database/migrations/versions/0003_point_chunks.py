"""Points move from a row each into chunks; live points from JSON events into segments.

Chunks are written by points_v1.py: bodies carry a version, and every later codec reads this one's.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.database.migrations import points_v1

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 65_536


def upgrade() -> None:
    op.alter_column("metrics", "id", type_=sa.Integer(), existing_nullable=False)
    op.add_column("experiments", sa.Column("merged_seq", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "segments",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("merged_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_segments_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment_id", "seq", name=op.f("pk_segments")),
    )
    op.create_index(
        "ix_segments_unmerged", "segments", ["experiment_id", "seq"], postgresql_where=sa.text("merged_at IS NULL")
    )
    op.create_index("ix_segments_merged", "segments", ["merged_at"], postgresql_where=sa.text("merged_at IS NOT NULL"))
    op.create_table(
        "chunks",
        sa.Column("trial_id", sa.BigInteger(), nullable=False),
        sa.Column("metric_id", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("min_epoch", sa.REAL(), nullable=False),
        sa.Column("max_epoch", sa.REAL(), nullable=False),
        sa.Column("min_time", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("max_time", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_chunks_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "metric_id", "first_step", name=op.f("pk_chunks")),
    )
    # Bodies are compressed already: PostgreSQL need not try.
    op.execute("ALTER TABLE segments ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE chunks ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN summary SET STORAGE EXTERNAL")
    _move_points()
    op.drop_table("points")
    op.execute("""
        UPDATE experiments SET merged_seq = last.seq FROM (
            SELECT experiment_id, max(seq) AS seq FROM events WHERE kind = 'points' GROUP BY experiment_id
        ) AS last WHERE last.experiment_id = experiments.id
    """)
    op.execute("DELETE FROM events WHERE kind = 'points'")


def _move_points() -> None:
    """A batch at a time, so that memory stays bounded. Points without a trial have nobody to read them."""
    connection = op.get_bind()
    chunks = sa.table("chunks", *(sa.column(name) for name in (
        "trial_id", "metric_id", "first_step", "last_step", "points", "min_epoch", "max_epoch", "min_time",
        "max_time", "level", "summary", "body",
    )))  # fmt: skip
    series = connection.execute(
        sa.text("SELECT DISTINCT trial_id, metric_id FROM points JOIN trials ON trials.id = trial_id")
    ).all()
    for trial_id, metric_id in series:
        after = -1
        while True:
            rows = connection.execute(
                sa.text("""
                    SELECT step, epoch, time, value FROM points
                    WHERE trial_id = :trial_id AND metric_id = :metric_id AND step > :after ORDER BY step LIMIT :batch
                """),
                {"trial_id": trial_id, "metric_id": metric_id, "after": after, "batch": _BATCH},
            ).all()
            if not rows:
                break
            after = rows[-1].step
            connection.execute(
                sa.insert(chunks),
                [{"trial_id": trial_id, "metric_id": metric_id, **chunk} for chunk in points_v1.chunks(rows)],
            )


def downgrade() -> None:
    raise NotImplementedError("points are not moved back; restore a backup")
