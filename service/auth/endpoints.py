"""Browser sessions: log in with a token, see who one is, log out."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from service.auth import cookies, service
from service.auth.denials import too_many, unauthorized
from service.auth.dependencies import CurrentRecognised, Viewer, refuse_cross_site
from service.context import CurrentContext
from service.problems import PROBLEM_RESPONSES
from service.schema import Schema
from service.secret import hash_token
from service.telemetry.requests import USER

router = APIRouter(prefix="/api/v1/session", tags=["session"], responses=PROBLEM_RESPONSES)


class Login(Schema):
    """A token pasted into the login form."""

    token: Annotated[str, Field(min_length=1, max_length=500)]


class SessionRead(Schema):
    """Who the caller is."""

    name: str
    role: service.Role


@router.post("", status_code=204)
async def log_in(login: Login, request: Request, response: Response, context: CurrentContext) -> None:
    """Open a browser session: sets an HttpOnly cookie that lives twelve hours, at most as long as the token."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        refuse_cross_site(request)  # or another site could sign a browser in as somebody else
    token = login.token.strip()
    if wait := context.request_rates.take(hash_token(token)):
        raise too_many(wait, context.request_rates.rate, "access")
    async with context.database.transaction() as session:
        principal = await service.authenticate(session, token)
        if principal is None:
            raise unauthorized("bad_token", service.NOT_VALID)
        cookie = await service.open_session(session, principal)
    request.scope[USER] = (principal.name, principal.token_id)
    cookies.write(request, response, cookie, seconds=int(service.SESSION_LIFE.total_seconds()))


@router.get("")
async def who_am_i(principal: Viewer) -> SessionRead:
    """The caller's name and role."""
    return SessionRead(name=principal.name, role=principal.role)


@router.delete("", status_code=204)
async def log_out(request: Request, response: Response, context: CurrentContext, recognised: CurrentRecognised) -> None:
    """Close the browser session. Does nothing if there is none."""
    cookie = cookies.read(request)
    if cookie is not None:
        refuse_cross_site(request)
        async with context.database.transaction() as session:
            await service.close_session(session, cookie)
        recognised.forget_all()
        cookies.delete(request, response)
