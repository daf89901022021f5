"""Queries on kept logs. They are large: nothing else loads them."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt


async def kept(session: AsyncSession, attempt_id: int) -> tuple[str, int]:
    """The kept log of an attempt, and how many characters came before it."""
    row = (await session.execute(select(Attempt.log, Attempt.log_start).where(Attempt.id == attempt_id))).one_or_none()
    return (row.log or "", row.log_start) if row is not None else ("", 0)


async def keep(session: AsyncSession, attempt_id: int, log: str, start: int) -> None:
    """Store the log of an attempt."""
    await session.execute(update(Attempt).where(Attempt.id == attempt_id).values(log=log, log_start=start))
