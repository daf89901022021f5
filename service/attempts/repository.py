"""Queries on attempts."""

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment


async def add(
    session: AsyncSession,
    *,
    experiment_id: int,
    number: int,
    submission_id: str,
    code_hash: bytes | None = None,
    token_hash: bytes | None = None,
) -> Attempt:
    """Store a new attempt."""
    attempt = Attempt(
        experiment_id=experiment_id,
        number=number,
        submission_id=submission_id,
        code_hash=code_hash,
        token_hash=token_hash,
    )
    session.add(attempt)
    await session.flush()
    return attempt


async def get(session: AsyncSession, attempt_id: int) -> Attempt | None:
    """One attempt as it is now."""
    return await session.get(Attempt, attempt_id, populate_existing=True)


async def spec(session: AsyncSession, attempt_id: int) -> dict[str, Any] | None:
    """The spec of an attempt's experiment. It never changes: nothing needs to be locked for it."""
    query = select(Experiment.spec).join(Attempt, Attempt.experiment_id == Experiment.id)
    return (await session.scalars(query.where(Attempt.id == attempt_id))).one_or_none()


async def owner(session: AsyncSession, attempt_id: int) -> str:
    """Whose experiment an attempt belongs to; empty if there is none any more."""
    query = select(Experiment.owner).join(Attempt, Attempt.experiment_id == Experiment.id)
    return (await session.scalars(query.where(Attempt.id == attempt_id))).one_or_none() or ""


async def current(session: AsyncSession, experiment_id: int) -> Attempt | None:
    """The latest attempt of an experiment."""
    query = select(Attempt).where(Attempt.experiment_id == experiment_id).order_by(Attempt.number.desc()).limit(1)
    return (await session.scalars(query)).one_or_none()


async def lost_since(session: AsyncSession, experiment_id: int, number: int) -> int:
    """How many attempts after the one of this number were lost."""
    query = select(func.count()).where(
        Attempt.experiment_id == experiment_id, Attempt.number > number, Attempt.state == "lost"
    )
    return (await session.scalars(query)).one()


async def fruitless_since(session: AsyncSession, experiment_id: int, number: int, worth: timedelta) -> int:
    """How many of the latest attempts in a row, after the one of this number, had a worker for less than `worth`."""
    of_it = Attempt.experiment_id == experiment_id
    fruitful = select(func.max(Attempt.number)).where(of_it, Attempt.heartbeat_at - Attempt.started_at >= worth)
    after = func.greatest(number, fruitful.scalar_subquery())  # which passes over null
    return (await session.scalars(select(func.count()).where(of_it, Attempt.number > after))).one()


async def silent_for(session: AsyncSession, attempt_id: int, time: timedelta) -> bool:
    """Whether an attempt ended, and no report of its worker was accepted or refused, for this long."""
    last = func.greatest(Attempt.ended_at, Attempt.heartbeat_at, Attempt.refused_at)
    query = select(Attempt.id).where(Attempt.id == attempt_id, Attempt.ended_at.is_not(None), last < func.now() - time)
    return (await session.scalars(query)).first() is not None


async def change(session: AsyncSession, attempt_id: int, **values: Any) -> None:
    """Set columns of one attempt."""
    await session.execute(update(Attempt).where(Attempt.id == attempt_id).values(**values))
