"""Queries of the dispatcher: leases, and attempts whose job must be closed."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment
from service.experiments.states import EXPERIMENT_DISPATCHED

LEASE = timedelta(seconds=9)
"""Extended by heartbeats every third of it; a replica that dies holds its work up for as long at most."""


async def lease_due(session: AsyncSession, limit: int) -> Sequence[tuple[int, UUID]]:
    """Lease dispatched experiments that are due, longest due first: pairs of id and lease token."""
    token = uuid4()
    unleased = or_(Experiment.lock_expires_at.is_(None), Experiment.lock_expires_at < func.now())
    # A WITH clause is evaluated once; as a plain subquery a plan may run it again for every row, past its limit.
    due = (
        select(Experiment.id)
        .where(Experiment.due_at <= func.now(), Experiment.state.in_(EXPERIMENT_DISPATCHED), unleased)
        .order_by(Experiment.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    leased = await session.scalars(
        update(Experiment)
        .where(Experiment.id.in_(select(due.c.id)))
        .values(lock_token=token, lock_expires_at=func.now() + LEASE)
        .returning(Experiment.id)
    )
    return [(experiment_id, token) for experiment_id in leased]


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


async def release_all(session: AsyncSession) -> None:
    """Take over the leases of the previous service on this database."""
    await session.execute(
        update(Experiment).where(Experiment.lock_token.is_not(None)).values(lock_token=None, lock_expires_at=None)
    )


async def dispatched(session: AsyncSession) -> Sequence[int]:
    """Every experiment that the dispatcher manages."""
    return (await session.scalars(select(Experiment.id).where(Experiment.state.in_(EXPERIMENT_DISPATCHED)))).all()


async def open_attempts(session: AsyncSession) -> Sequence[Attempt]:
    """Attempts whose Ray job is not closed."""
    return (await session.scalars(select(Attempt).where(Attempt.closed_at.is_(None)).order_by(Attempt.id))).all()


async def attempts_to_close(session: AsyncSession, ended_before: timedelta, limit: int) -> Sequence[Attempt]:
    """Attempts that ended and whose Ray job is not closed.

    Their drivers get a while to end by themselves, unless the experiment waits for its next attempt. In random
    order: jobs that do not end however often they are told to must not keep the others waiting.
    """
    query = (
        select(Attempt)
        .join(Experiment)
        .where(
            Attempt.closed_at.is_(None),
            or_(
                Attempt.ended_at < func.now() - ended_before,
                and_(Attempt.ended_at.is_not(None), Experiment.state == "queued"),
            ),
        )
        .order_by(func.random())
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def open_of(session: AsyncSession, submission_ids: Sequence[str]) -> set[str]:
    """Those of the given Ray jobs that belong to an attempt which is not closed."""
    query = select(Attempt.submission_id).where(Attempt.submission_id.in_(submission_ids), Attempt.closed_at.is_(None))
    return set(await session.scalars(query))
