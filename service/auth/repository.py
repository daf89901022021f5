"""Queries on tokens. A browser session is a token too, with the token that opened it as its parent."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Boolean, ColumnElement, Interval, Select, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from service.database.tables import Token


async def add(
    session: AsyncSession,
    *,
    name: str,
    role: str,
    token_hash: bytes,
    expires_at: datetime | None = None,
    parent_id: int | None = None,
) -> Token:
    """Store a token by its hash."""
    token = Token(name=name, role=role, hash=token_hash, expires_at=expires_at, parent_id=parent_id)
    session.add(token)
    await session.flush()
    await session.refresh(token)
    return token


async def find_valid(
    session: AsyncSession, token_hash: bytes, used_within: timedelta, *, of_browser: bool
) -> tuple[Token, bool] | None:
    """The token with this hash, unless it, or the token that opened the session, has expired or was revoked.

    Only browser sessions are found with `of_browser`, only tokens that people hold without.

    The second value says whether its last use is not yet written down, or longer ago than `used_within`.
    """
    parameters = {"hash": token_hash, "used_within": used_within, "of_browser": of_browser}
    row = (await session.execute(_FIND_VALID, parameters)).one_or_none()
    return None if row is None else (row[0], row[1])


async def still_valid(session: AsyncSession, ids: Collection[int]) -> set[int]:
    """Which of these tokens and browser sessions have neither expired nor been revoked."""
    parent = aliased(Token)
    query = (
        select(Token.id)
        .outerjoin(parent, parent.id == Token.parent_id)
        .where(Token.id.in_(ids), _valid(Token), or_(Token.parent_id.is_(None), _valid(parent)))
    )
    return set(await session.scalars(query))


async def exists(session: AsyncSession, token_hash: bytes) -> bool:
    """Whether there is or was a token with this hash."""
    return await session.scalar(select(Token.id).where(Token.hash == token_hash)) is not None


async def has_admin(session: AsyncSession) -> bool:
    """Whether there is a valid admin token."""
    query = select(Token.id).where(Token.role == "admin", Token.parent_id.is_(None), _valid(Token)).limit(1)
    return await session.scalar(query) is not None


async def mark_used(session: AsyncSession, token_id: int) -> None:
    """Write down that a token was used. A request that finds another doing so leaves it to that one."""
    row = select(Token.id).where(Token.id == token_id).with_for_update(skip_locked=True).cte("row")
    await session.execute(
        update(Token)
        .where(Token.id.in_(select(row.c.id)))
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def page(session: AsyncSession, *, before: int | None, limit: int) -> Sequence[Token]:
    """Tokens people hold, newest first: no browser sessions, none that was revoked."""
    query = (
        select(Token)
        .where(Token.parent_id.is_(None), Token.revoked_at.is_(None))
        .order_by(Token.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(Token.id < before)
    return (await session.scalars(query)).all()


async def revoke(session: AsyncSession, token_id: int) -> Token | None:
    """End a token and the sessions it opened; None if there is no such token.

    Its hash is kept, so that it cannot be added again.
    """
    token = await session.scalar(
        update(Token)
        .where(Token.id == token_id, Token.parent_id.is_(None), Token.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(Token)
    )
    await session.execute(delete(Token).where(Token.parent_id == token_id))
    return token


async def remove_session(session: AsyncSession, token_hash: bytes) -> None:
    """Forget a browser session."""
    await session.execute(delete(Token).where(Token.hash == token_hash, Token.parent_id.is_not(None)))


async def remove_expired_sessions(session: AsyncSession) -> None:
    """Forget browser sessions that are over."""
    await session.execute(delete(Token).where(Token.parent_id.is_not(None), Token.expires_at < func.now()))


def _valid(token: type[Token]) -> ColumnElement[bool]:
    return token.revoked_at.is_(None) & or_(token.expires_at.is_(None), token.expires_at > func.now())


def _find_valid() -> Select[Token, bool]:
    parent = aliased(Token)
    used_at = func.coalesce(parent.last_used_at, Token.last_used_at)
    return (
        select(Token, or_(used_at.is_(None), used_at < func.now() - bindparam("used_within", type_=Interval)))
        .outerjoin(parent, parent.id == Token.parent_id)
        .where(
            Token.hash == bindparam("hash"),
            Token.parent_id.is_not(None) == bindparam("of_browser", type_=Boolean),
            _valid(Token),
            or_(Token.parent_id.is_(None), _valid(parent)),
        )
    )


_FIND_VALID = _find_valid()
"""Put together once: every request asks it, and putting it together costs more than asking."""
