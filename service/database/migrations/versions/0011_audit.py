"""Who did what, in rows that outlive what it was done to. The database itself refuses to change or remove them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Retention says so in its transaction, and even then the last 30 days stay. An empty one is emptied by a restore.
_GUARD = """
    CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('adadim.audit_retention', true) = 'on'
            AND OLD.at < now() - interval '30 days' THEN
            RETURN OLD;
        END IF;
        IF TG_OP = 'TRUNCATE' AND NOT EXISTS (SELECT FROM audit) THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'the audit is append-only';
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column(
            "at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("experiment_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_by", "audit", ["by", "id"])
    op.create_index("ix_audit_experiment_id", "audit", ["experiment_id", "id"])
    op.execute(_GUARD)
    op.execute(
        "CREATE TRIGGER audit_rows BEFORE UPDATE OR DELETE ON audit"
        " FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
    )
    op.execute(
        "CREATE TRIGGER audit_whole BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )
    # What was done before is known of experiments that are there.
    op.execute(
        "INSERT INTO audit (at, by, action, experiment_id, subject, details)"
        " SELECT t.at, t.by, CASE WHEN t.source IS NULL THEN 'experiment.submitted' ELSE 'experiment.' || t.target END,"
        " e.id, e.name, jsonb_strip_nulls(jsonb_build_object("
        "'from', t.source, 'attempt', t.attempt, 'reason', left(t.reason, 500)))"
        " FROM transitions AS t JOIN experiments AS e ON e.id = t.experiment_id ORDER BY t.id"
    )


def downgrade() -> None:
    op.drop_table("audit")
    op.execute("DROP FUNCTION audit_is_append_only()")
