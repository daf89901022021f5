"""Writes down who did what. A row is never changed, and removed only when it is older than the audit is kept.

Whoever does something appends to the audit in the transaction that does it: what is not in the audit did not happen.
Reading it is service/audit's. The database itself refuses anything else (migration 0011).
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Audit

LEAST_DAYS = 30
"""The database refuses to remove entries younger than this."""
MAX_REASON = 500
"""Characters of a reason that are kept: errors of runs are long, and have their place with the run."""


async def append(session: AsyncSession, *, by: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Write down one thing that was done to anything but an experiment.

    Args:
        by: A user's name, or who else did it: `service`.
        action: What was done, as `token.revoked`.
        subject: To whom or what, by a name people know it by.
        details: The rest, as JSON.
    """
    await session.execute(insert(Audit).values(by=by, action=action, subject=subject, details=dict(details)))


async def prune(session: AsyncSession, days: float, limit: int) -> int:
    """Remove the oldest entries of more than `days`, at most `limit`. Returns how many."""
    await session.execute(text("SELECT set_config('adadim.audit_retention', 'on', true)"))
    removed = await session.execute(
        text(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit"
            " WHERE at < now() - make_interval(secs => :seconds) ORDER BY id LIMIT :limit) RETURNING id"
        ),
        {"seconds": days * 86_400, "limit": limit},
    )
    return len(removed.all())
