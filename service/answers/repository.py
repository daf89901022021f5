"""Queries of answers: of every trial what an answer needs, and no more."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Trial


async def trials(session: AsyncSession, experiment_id: int) -> Sequence[Row[Any]]:
    """Id, number, values, state, epochs and last metrics of every trial, in the order of the plan."""
    columns = (Trial.id, Trial.number, Trial.params, Trial.state, Trial.epoch, Trial.epochs, Trial.latest)
    query = select(*columns).where(Trial.experiment_id == experiment_id).order_by(Trial.number)
    return list(await session.execute(query))
