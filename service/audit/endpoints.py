"""HTTP: the audit, for admins."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from service.audit import repository
from service.audit.schemas import AuditEntry, AuditPage
from service.auth.dependencies import Admin
from service.context import CurrentContext
from service.experiments.dependencies import MAX_ID
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1", tags=["audit"], responses=PROBLEM_RESPONSES)

_NAME = r"^[^\x00]*$"


def _filter(
    *,
    by: Annotated[str | None, Query(max_length=200, pattern=_NAME, description="Who did it: a user's name.")] = None,
    action: Annotated[
        str | None, Query(max_length=100, pattern=r"^[a-z_.]*$", description="What, or how it begins: token.")
    ] = None,
    experiment: Annotated[int | None, Query(ge=1, le=MAX_ID, description="To which experiment.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="From this time on, with its zone.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time, with its zone.")] = None,
) -> repository.Filter:
    return repository.Filter(by, action, experiment, since, until)


@router.get("/audit")
async def read_audit(
    _: Admin,
    context: CurrentContext,
    wanted: Annotated[repository.Filter, Depends(_filter)],
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> AuditPage:
    """Who did what and when, newest first: to experiments, gone ones too, to tokens and browser sessions."""
    async with context.database.transaction() as session:
        rows = await repository.page(session, wanted, before=int(cursor) if cursor else None, limit=limit + 1)
    items = [AuditEntry.model_validate(row) for row in rows[:limit]]
    return AuditPage(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)
