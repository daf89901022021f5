"""Queries behind the gauges: what is true of the whole installation, whichever replica is asked."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment, Trial


async def experiments_by_state(session: AsyncSession) -> Sequence[Row[tuple[str, int]]]:
    """Pairs of state and number of experiments."""
    return (await session.execute(select(Experiment.state, func.count()).group_by(Experiment.state))).all()


async def attempts_by_state(session: AsyncSession) -> Sequence[Row[tuple[str, int]]]:
    """Pairs of state and number of attempts."""
    return (await session.execute(select(Attempt.state, func.count()).group_by(Attempt.state))).all()


async def longest_wait(session: AsyncSession) -> float:
    """Seconds since the oldest queued experiment could have started; 0 when none waits."""
    query = select(func.extract("epoch", func.now() - func.min(Experiment.due_at)))
    return max(float((await session.scalars(query.where(Experiment.state == "queued"))).one() or 0.0), 0.0)


async def running_trials(session: AsyncSession, limit: int) -> Sequence[Row[tuple[int, int, dict[str, Any]]]]:
    """Experiment, number and last values of running trials, newest first."""
    query = select(Trial.experiment_id, Trial.number, Trial.latest).where(Trial.state == "running")
    return (await session.execute(query.order_by(Trial.id.desc()).limit(limit))).all()
