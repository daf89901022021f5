"""FastAPI dependencies that recognise the caller and demand a role."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.auth import service
from service.auth.service import Principal
from service.context import Context, get_context
from service.problems import Problem

SESSION_COOKIE = "adadim_session"


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header, if there is one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


_SCHEME = HTTPBearer(auto_error=False, description="A token; `adadim serve` says in which file it lies.")


async def _principal(
    request: Request,
    context: Annotated[Context, Depends(get_context)],
    _: Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)],  # for the API's documentation
) -> Principal:
    token = bearer_token(request)
    if token is None:
        token = request.cookies.get(SESSION_COOKIE)
        if token is not None:
            _refuse_cross_site(request)
    if token is None:
        raise _unauthorized("Send a token: 'Authorization: Bearer ...'. `adadim serve` prints where to find it.")
    async with context.database.transaction() as session:
        principal = await service.authenticate(session, token)
    if principal is None:
        raise _unauthorized("The token is not valid or has expired.")
    return principal


def _refuse_cross_site(request: Request) -> None:
    """A cookie travels by itself: a write must come from our own pages (beside SameSite=Strict)."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("origin")
    if origin is None or origin.partition("://")[2] != request.headers.get("host"):
        raise Problem(403, "Forbidden", "A browser session may write from the service's own pages only.")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


async def _viewer(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    return principal


async def _submitter(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    if not principal.may("submitter"):
        raise Problem(403, "Forbidden", f"The role {principal.role} may read; submitting takes the role submitter.")
    return principal


Viewer = Annotated[Principal, Depends(_viewer)]
"""Any valid token."""
Submitter = Annotated[Principal, Depends(_submitter)]
"""A token that may submit and change experiments."""
