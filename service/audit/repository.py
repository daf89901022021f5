"""Queries on the audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Audit


@dataclass(frozen=True)
class Filter:
    """Which entries are asked for; None: whichever."""

    by: str | None = None
    action: str | None = None
    """The action, or its beginning: experiment, token."""
    experiment_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(session: AsyncSession, wanted: Filter, *, before: int | None, limit: int) -> Sequence[Audit]:
    """Entries, newest first, from the one before entry `before` on."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if wanted.by is not None:
        query = query.where(Audit.by == wanted.by)
    if wanted.action is not None:
        query = query.where(Audit.action.startswith(wanted.action, autoescape=True))
    if wanted.experiment_id is not None:
        query = query.where(Audit.experiment_id == wanted.experiment_id)
    if wanted.since is not None:
        query = query.where(Audit.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Audit.at < wanted.until)
    if before is not None:
        query = query.where(Audit.id < before)
    return (await session.scalars(query)).all()
