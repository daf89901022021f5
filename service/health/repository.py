"""Queries behind the gauges: what is true of the whole installation, whichever replica is asked."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment, Trial


async def experiments_by_state(session: AsyncSession) -> list[tuple[str, int]]:
    """Pairs of state and number of experiments."""
    rows = await session.execute(select(Experiment.state, func.count()).group_by(Experiment.state))
    return [(state, count) for state, count in rows]


async def attempts_by_state(session: AsyncSession) -> list[tuple[str, int]]:
    """Pairs of state and number of attempts."""
    rows = await session.execute(select(Attempt.state, func.count()).group_by(Attempt.state))
    return [(state, count) for state, count in rows]


async def longest_wait(session: AsyncSession) -> float:
    """Seconds since the oldest queued experiment could have started; 0 when none waits."""
    query = select(func.extract("epoch", func.now() - func.min(Experiment.due_at)))
    return max(float((await session.scalars(query.where(Experiment.state == "queued"))).one() or 0.0), 0.0)


async def running_trials(session: AsyncSession, limit: int) -> list[tuple[int, int, dict[str, Any]]]:
    """Experiment, number and last values of running trials, newest first."""
    query = select(Trial.experiment_id, Trial.number, Trial.latest).where(Trial.state == "running")
    rows = await session.execute(query.order_by(Trial.id.desc()).limit(limit))
    return [(experiment, number, latest) for experiment, number, latest in rows]
