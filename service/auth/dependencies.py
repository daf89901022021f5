"""FastAPI dependencies that recognise the caller and demand a role.

Every route takes one of them, or is listed as public in tests/service/test_permissions.py.
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.auth import cookies, service
from service.auth.denials import forbidden, too_many, unauthorized
from service.auth.open_requests import OpenRequests
from service.auth.recognised import Recognised
from service.auth.service import Principal
from service.context import Context, get_context
from service.secret import hash_token
from service.telemetry.requests import USER


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header, if there is one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


_SCHEME = HTTPBearer(auto_error=False, description="A token; `adadim serve` says in which file it lies.")


async def get_recognised(request: Request) -> Recognised:
    """The callers the application a request came to has recognised: `app.state.recognised`."""
    recognised: Recognised = request.app.state.recognised
    return recognised


CurrentRecognised = Annotated[Recognised, Depends(get_recognised)]


async def _principal(
    request: Request,
    context: Annotated[Context, Depends(get_context)],
    recognised: CurrentRecognised,
    _: Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)],  # for the API's documentation
) -> Principal:
    token = bearer_token(request)
    of_browser = token is None
    if of_browser:
        token = cookies.read(request)
        if token is not None:
            refuse_cross_site(request)
    if token is None:
        raise unauthorized(
            "no_token", "Send a token: 'Authorization: Bearer ...'. `adadim serve` prints where to find it."
        )
    # Before the database is asked: what is refused here costs nothing.
    hashed = hash_token(token)
    if wait := context.request_rates.take(hashed):
        raise too_many(wait, context.request_rates.rate, "access")
    principal = recognised.find(hashed)
    if principal is None or (principal.session_id is not None) != of_browser:
        remember = recognised.begin()
        async with context.database.transaction() as session:
            principal = await service.authenticate(session, token, of_browser=of_browser)
        if principal is None:
            raise unauthorized("bad_token", service.NOT_VALID)
        remember(hashed, principal)
    request.scope[USER] = (principal.name, principal.token_id)
    open_requests: OpenRequests = request.app.state.open_requests
    open_requests.follow(request.scope, principal)
    return principal


def refuse_cross_site(request: Request) -> None:
    """Browsers send cookies on their own: a write must come from our own pages (in addition to SameSite=Strict).

    Browsers say so in Sec-Fetch-Site, which no page can set and no proxy rewrites; older ones, and those that reach
    us by plain HTTP, in Origin only.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    else:
        same = origin is not None and origin.partition("://")[2] == request.headers.get("host")
    if not same:
        raise forbidden("cross_site", "A browser session may write from the service's own pages only.")


async def viewer(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    """Any valid token."""
    return principal


async def submitter(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    """A token that may submit."""
    if not principal.may("submitter"):
        raise forbidden("role", f"The role {principal.role} may read; this takes the role submitter.")
    return principal


async def admin(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    """A token that may do everything."""
    if not principal.may("admin"):
        raise forbidden("role", f"The role {principal.role} may not do this; it takes the role admin.")
    return principal


Viewer = Annotated[Principal, Depends(viewer)]
"""Any valid token."""
Submitter = Annotated[Principal, Depends(submitter)]
"""A token that may submit. Changing an experiment takes `service.experiments.dependencies.Owner`."""
Admin = Annotated[Principal, Depends(admin)]
"""A token that may do everything, tokens included."""
