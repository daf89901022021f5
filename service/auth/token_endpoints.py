"""HTTP: tokens of people. Admins make, list and revoke them."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.auth import repository, service
from service.auth.denials import forbidden
from service.auth.dependencies import Admin, CurrentRecognised
from service.auth.schemas import TokenCreate, TokenCreated, TokenPage, TokenRead
from service.context import CurrentContext
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"], responses=PROBLEM_RESPONSES)


@router.post("", status_code=201)
async def create_token(new: TokenCreate, principal: Admin, response: Response, context: CurrentContext) -> TokenCreated:
    """Make a token. Its value is in this answer and nowhere else. A browser session makes none: it would outlive it."""
    if principal.session_id is not None:
        raise forbidden("session", "A browser session makes no tokens; use `adadim token create`.")
    life = None if new.expires_in_days is None else timedelta(days=new.expires_in_days)
    async with context.database.transaction() as session:
        token, value = await service.create(session, name=new.name, role=new.role, life=life, by=principal)
    response.headers["Cache-Control"] = "no-store"
    return TokenCreated(**TokenRead.model_validate(token).model_dump(), token=value)


@router.get("")
async def list_tokens(
    _: Admin,
    context: CurrentContext,
    *,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> TokenPage:
    """Tokens that were not revoked, newest first, without their values."""
    async with context.database.transaction() as session:
        rows = await repository.page(session, before=int(cursor) if cursor else None, limit=limit + 1)
    items = [TokenRead.model_validate(row) for row in rows[:limit]]
    return TokenPage(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)


@router.delete("/{token_id}", status_code=204)
async def revoke_token(
    token_id: Annotated[int, Path(ge=1, le=2**63 - 1)],
    principal: Admin,
    context: CurrentContext,
    recognised: CurrentRecognised,
) -> None:
    """End a token and every browser session it opened: here at once, at other replicas within a second."""
    async with context.database.transaction() as session:
        await service.revoke(session, token_id, by=principal)
    recognised.forget_all()
