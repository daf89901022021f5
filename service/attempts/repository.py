"""Queries on attempts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt


async def add(
    session: AsyncSession, *, experiment_id: int, number: int, submission_id: str, token_hash: bytes
) -> Attempt:
    """Store a new attempt."""
    attempt = Attempt(experiment_id=experiment_id, number=number, submission_id=submission_id, token_hash=token_hash)
    session.add(attempt)
    await session.flush()
    return attempt


async def get(session: AsyncSession, attempt_id: int) -> Attempt | None:
    """One attempt."""
    return await session.get(Attempt, attempt_id)


async def current(session: AsyncSession, experiment_id: int) -> Attempt | None:
    """The latest attempt of an experiment."""
    query = select(Attempt).where(Attempt.experiment_id == experiment_id).order_by(Attempt.number.desc()).limit(1)
    return (await session.scalars(query)).one_or_none()


async def in_states(session: AsyncSession, experiment_id: int, states: Sequence[str]) -> int:
    """How many attempts of an experiment ended (or are) in one of these states."""
    query = select(Attempt.id).where(Attempt.experiment_id == experiment_id, Attempt.state.in_(states))
    return len((await session.scalars(query)).all())


async def change(session: AsyncSession, attempt_id: int, **values: Any) -> None:
    """Set columns of one attempt."""
    await session.execute(update(Attempt).where(Attempt.id == attempt_id).values(**values))


async def replace_token(session: AsyncSession, attempt_id: int, *, old: bytes, new: bytes) -> bool:
    """Exchange the token of an attempt that is open; False if it is over, or `old` is not its token any more."""
    replaced = await session.scalars(
        update(Attempt)
        .where(Attempt.id == attempt_id, Attempt.token_hash == old, Attempt.ended_at.is_(None))
        .values(token_hash=new)
        .returning(Attempt.id)
    )
    return replaced.one_or_none() is not None
