"""Queries on tokens."""

from datetime import datetime

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Token


async def add(
    session: AsyncSession, *, name: str, role: str, token_hash: bytes, expires_at: datetime | None = None
) -> Token:
    """Store a token by its hash."""
    token = Token(name=name, role=role, hash=token_hash, expires_at=expires_at)
    session.add(token)
    await session.flush()
    return token


async def find_valid(session: AsyncSession, token_hash: bytes) -> Token | None:
    """The token with this hash, unless it has expired."""
    return await session.scalar(
        select(Token).where(Token.hash == token_hash, or_(Token.expires_at.is_(None), Token.expires_at > func.now()))
    )


async def remove(session: AsyncSession, token_hash: bytes) -> None:
    """Forget a token."""
    await session.execute(delete(Token).where(Token.hash == token_hash))


async def remove_expired(session: AsyncSession) -> None:
    """Forget tokens that are no longer valid."""
    await session.execute(delete(Token).where(Token.expires_at < func.now()))
