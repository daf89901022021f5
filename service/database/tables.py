"""Every table of the database. Alembic migrations create them; a test keeps the two in agreement.

Repositories own the queries; nothing here decides anything.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, REAL, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Common column types and constraint names, so that migrations are reproducible."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {
        str: Text,
        int: Integer,
        float: DOUBLE_PRECISION,
        bytes: LargeBinary,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        UUID: Uuid,
    }


class Installation(Base):
    """One row: what tells this database's jobs and folders from another's on the same cluster."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, server_default=text("1"))
    key: Mapped[str] = mapped_column(server_default=text("substr(md5(gen_random_uuid()::text), 1, 8)"))
    admin_token_id: Mapped[int | None] = mapped_column(BigInteger)
    """The admin token that the database began with, or that replaced it."""
    admin_token_place: Mapped[str | None]
    """Where it was put, for people."""


class Token(Base):
    """A secret that authenticates a caller; only its hash is kept. A browser session is one with a parent."""

    __tablename__ = "tokens"
    __table_args__ = (Index("ix_tokens_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    """Whose token it is: the owner of what is submitted with it."""
    role: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To within minutes; of a token, not of its sessions."""
    parent_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("tokens.id", ondelete="CASCADE"))
    """The token that opened this browser session."""


class Experiment(Base):
    """One submitted spec with its desired and its observed state."""

    __tablename__ = "experiments"
    __table_args__ = (
        Index("ix_experiments_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_experiments_state", "state"),
        Index("ix_experiments_queue", "owner", "priority", "id", postgresql_where=text("state = 'queued'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_text: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="queued")
    state_reason: Mapped[str | None]
    desired_state: Mapped[str] = mapped_column(server_default="run")
    labels: Mapped[dict[str, Any]] = mapped_column(
        Computed("coalesce(spec -> 'labels', '{}'::jsonb)", persisted=True), nullable=False
    )
    """The spec's: lists show them without reading specs."""
    metric: Mapped[str]
    mode: Mapped[str]
    trial_count: Mapped[int]
    trials_done: Mapped[int] = mapped_column(server_default="0")
    best_trial: Mapped[int | None]
    best_value: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    """Number of the current attempt; 0 before the first."""
    forgiven: Mapped[int] = mapped_column(server_default="0")
    """Attempts up to this number do not count against the spec's retries: a user said `retry` after them."""
    priority: Mapped[int] = mapped_column(server_default="0")
    """Higher ones start first."""
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Since when it waits, or when it last began to."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    metric_names: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}", deferred=True)
    """Metrics its workers have reported: an experiment has a budget of them."""
    seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Number of the last event. Raised under the row's lock, so that events commit in their order."""
    merged_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Points of events up to this one are in chunks only: a client that is further back must read the series again."""
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """When the dispatcher should look next; null once there is nothing left to do."""
    lock_token: Mapped[UUID | None]
    lock_expires_at: Mapped[datetime | None]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), deferred=True, deferred_raiseload=True)
    """What was read of each data set, by a name of its place: kilobytes that only its own page needs."""


class IdempotencyKey(Base):
    """A submission already answered: the same key gives the same experiment."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[bytes]
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))


class Attempt(Base):
    """One execution of an experiment as one Ray job. Its token is the fence: a later attempt's voids it."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("experiment_id", "number"),
        Index("ix_attempts_open", "id", postgresql_where=text("closed_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    number: Mapped[int]
    submission_id: Mapped[str] = mapped_column(unique=True)
    code_hash: Mapped[bytes | None]
    """Of the code its job was started with; null where there is no job, as for an import."""
    token_hash: Mapped[bytes | None]
    """Of the token its reports carry; null until its job's driver has shown that it is one, and said which."""
    codes_refused: Mapped[int] = mapped_column(server_default="0")
    """How often somebody had the code and was refused, as far as that is written down."""
    state: Mapped[str] = mapped_column(server_default="starting")
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    submitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    """When its worker first reported."""
    heartbeat_at: Mapped[datetime | None]
    """When its worker's last report was taken."""
    refused_at: Mapped[datetime | None]
    """When a report of its worker was last refused because the attempt is over."""
    ended_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    """When the Ray job was seen to be gone and its log kept."""
    log: Mapped[str | None] = mapped_column(deferred=True)
    """The end of the driver's log, kept when the attempt is closed."""
    log_start: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """How many characters of the log came before those kept."""


class Transition(Base):
    """One step in an experiment's life: from which state to which, when, by whom and why. Rows never change."""

    __tablename__ = "transitions"
    __table_args__ = (Index("ix_transitions_experiment_id", "experiment_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    source: Mapped[str | None]
    """The state before; null for the submission."""
    target: Mapped[str]
    by: Mapped[str]
    """A user's name, or dispatcher, worker, or service."""
    reason: Mapped[str | None]
    attempt: Mapped[int]
    """Number of the attempt it belongs to; 0 before the first."""


class Audit(Base):
    """Who did what, kept when what it was done to is gone. Rows never change: the database refuses it."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_by", "by", "id"), Index("ix_audit_experiment_id", "experiment_id", "id"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    by: Mapped[str]
    """A user's name, or dispatcher, worker or service."""
    action: Mapped[str]
    experiment_id: Mapped[int | None] = mapped_column(BigInteger)
    """No foreign key: the experiment may be gone."""
    subject: Mapped[str]
    """The experiment's name, or whose token it is."""
    details: Mapped[dict[str, Any]]


class QueueTurn(Base):
    """When an owner last had a turn at a priority: who waits too long is let forward."""

    __tablename__ = "queue_turns"

    owner: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Trial(Base):
    """One training run with concrete hyperparameters."""

    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("experiment_id", "number"),
        Index("ix_trials_running", "id", postgresql_where=text("state = 'running'")),
        Index("ix_trials_states", "experiment_id", "state"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    number: Mapped[int]
    params: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="pending")
    epoch: Mapped[int] = mapped_column(server_default="0")
    epochs: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it is in this state, where that is not plain: what stopped it early, and when."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    latest: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """Metric to {step, time, value} of its highest step: what tables and gauges read, without touching points."""


class Event(Base):
    """What happened to an experiment, in order: the stream behind live updates."""

    __tablename__ = "events"

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Metric(Base):
    """A metric name and the number that stands for it in segments and chunks."""

    __tablename__ = "metrics"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Segment(Base):
    """Points as they were reported, of any trials of one experiment: a place in its event stream.

    Once its points are merged into chunks it is kept for a while for those who follow live.
    """

    __tablename__ = "segments"
    __table_args__ = (
        Index("ix_segments_unmerged", "experiment_id", "seq", postgresql_where=text("merged_at IS NULL")),
        Index("ix_segments_merged", "merged_at", postgresql_where=text("merged_at IS NOT NULL")),
    )

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    points: Mapped[int]
    body: Mapped[bytes]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    merged_at: Mapped[datetime | None]


class Chunk(Base):
    """Points of one series in order of step. The step ranges of a series' chunks do not overlap."""

    __tablename__ = "chunks"

    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    metric_id: Mapped[int] = mapped_column(primary_key=True)
    first_step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_step: Mapped[int] = mapped_column(BigInteger)
    points: Mapped[int]
    min_epoch: Mapped[float] = mapped_column(REAL)
    max_epoch: Mapped[float] = mapped_column(REAL)
    min_time: Mapped[float]
    max_time: Mapped[float]
    level: Mapped[int] = mapped_column(SmallInteger)
    """The summary is the chunk thinned to buckets of 2**level steps."""
    summary: Mapped[bytes]
    body: Mapped[bytes]
