"""Queries of the dispatcher: leases, slots, and attempts whose job must be seen off."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment
from service.experiments.states import EXPERIMENT_IN_FLIGHT

LEASE = timedelta(seconds=30)
_SLOTS_LOCK = 0x_ADAD_1_0002


async def lease_due(session: AsyncSession, limit: int) -> Sequence[tuple[int, UUID]]:
    """Lease experiments in flight that are due, longest due first: pairs of id and lease token."""
    token = uuid4()
    due = (
        select(Experiment.id)
        .where(Experiment.due_at <= func.now(), Experiment.state.in_(EXPERIMENT_IN_FLIGHT), _unleased())
        .order_by(Experiment.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(experiment_id, token) for experiment_id in await _lease(session, due, token)]


async def lease_queued(session: AsyncSession, slots: int) -> Sequence[tuple[Experiment, UUID]]:
    """Lease queued experiments, oldest first, for as many slots as are free.

    Replicas take turns here, so that together they never fill more slots than there are.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SLOTS_LOCK})
    used = await slots_in_use(session)
    if used >= slots:
        return []
    token = uuid4()
    queued = (
        select(Experiment.id)
        .where(Experiment.state == "queued", Experiment.due_at <= func.now(), _unleased())
        .order_by(Experiment.id)
        .limit(slots - used)
        .with_for_update(skip_locked=True)
    )
    ids = await _lease(session, queued, token)
    rows = (await session.scalars(select(Experiment).where(Experiment.id.in_(ids)).order_by(Experiment.id))).all()
    return [(row, token) for row in rows]


async def slots_in_use(session: AsyncSession) -> int:
    """Experiments that have an attempt on the cluster."""
    return (await session.scalars(select(func.count()).where(Experiment.state.in_(EXPERIMENT_IN_FLIGHT)))).one()


async def extend_lease(session: AsyncSession, experiment_id: int, token: UUID) -> bool:
    """Keep a lease for longer; False if it is no longer ours."""
    extended = await session.scalars(
        update(Experiment)
        .where(Experiment.id == experiment_id, Experiment.lock_token == token)
        .values(lock_expires_at=func.now() + LEASE)
        .returning(Experiment.id)
    )
    return extended.one_or_none() is not None


async def release(session: AsyncSession, experiment_id: int, token: UUID) -> None:
    """Give a lease back, if it is still ours."""
    await session.execute(
        update(Experiment)
        .where(Experiment.id == experiment_id, Experiment.lock_token == token)
        .values(lock_token=None, lock_expires_at=None)
    )


async def in_flight(session: AsyncSession) -> Sequence[int]:
    """Every experiment with an attempt on the cluster."""
    return (await session.scalars(select(Experiment.id).where(Experiment.state.in_(EXPERIMENT_IN_FLIGHT)))).all()


async def open_attempts(session: AsyncSession) -> Sequence[Attempt]:
    """Attempts whose Ray job has not been seen off yet."""
    return (await session.scalars(select(Attempt).where(Attempt.closed_at.is_(None)).order_by(Attempt.id))).all()


async def attempts_to_close(session: AsyncSession, ended_before: timedelta, limit: int) -> Sequence[Attempt]:
    """Attempts that are over for a while and whose Ray job has not been seen off yet.

    In random order: jobs that do not end however often they are told to must not keep the others waiting.
    """
    query = (
        select(Attempt)
        .where(Attempt.closed_at.is_(None), Attempt.ended_at < func.now() - ended_before)
        .order_by(func.random())
        .limit(limit)
    )
    return (await session.scalars(query)).all()


def _unleased() -> ColumnElement[bool]:
    return or_(Experiment.lock_expires_at.is_(None), Experiment.lock_expires_at < func.now())


async def _lease(session: AsyncSession, ids: Select[int], token: UUID) -> Sequence[int]:
    # A WITH clause is evaluated once; as a plain subquery a plan may run it again for every row, past its limit.
    chosen = ids.cte("chosen")
    leased = await session.scalars(
        update(Experiment)
        .where(Experiment.id.in_(select(chosen.c.id)))
        .values(lock_token=token, lock_expires_at=func.now() + LEASE)
        .returning(Experiment.id)
    )
    return leased.all()
