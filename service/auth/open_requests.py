"""Requests that are being answered, by what they stand on: a revoked token ends its streams, not only its next request.

Owns the watch on open requests of this process, whichever replica a token was revoked at. Who may ask for what at the
start of a request is dependencies.py's.
"""

import asyncio
import logging
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import repository, service
from service.auth.denials import unauthorized
from service.auth.recognised import Recognised
from service.auth.service import Principal
from service.database.engine import DATABASE_ERRORS, Database
from service.problems import answer
from service.telemetry.counters import REVOKED

logger = logging.getLogger(__name__)

LOOK_S = 0.4
"""Between two looks at what open requests stand on; a request that is answered sooner is never looked at."""
_SCOPE = "adadim.open_request"


@dataclass(eq=False)
class _Open:
    """A request that is being answered."""

    limit: asyncio.Timeout
    """Ends it."""
    holds: int = 0
    """The token or browser session it stands on."""
    seen: bool = False
    """It was there at the last look."""


class OpenRequests:
    """The open requests of one process. `follow` may be called for each; the looks begin and end by themselves."""

    def __init__(self, database: Database, recognised: Recognised) -> None:
        self._database, self._recognised = database, recognised
        self._open: set[_Open] = set()
        self._task: asyncio.Task[None] | None = None

    def follow(self, scope: Scope, principal: Principal) -> None:
        """A request of this caller is being answered."""
        found: _Open | None = scope.get(_SCOPE)
        if found is None or found in self._open:
            return  # not within EndWhenRevoked, or asked for by a second dependency
        found.holds = principal.holds
        self._open.add(found)
        if self._task is None:
            self._task = asyncio.create_task(self._look(), name="open requests")

    def forget(self, found: _Open) -> None:
        self._open.discard(found)

    async def _look(self) -> None:
        try:
            while self._open:
                await asyncio.sleep(LOOK_S)
                lasting = [one for one in self._open if one.seen]
                for one in self._open:
                    one.seen = True
                if lasting:
                    await self._end_revoked(lasting)
        finally:
            self._task = None

    async def _end_revoked(self, lasting: list[_Open]) -> None:
        try:
            async with self._database.transaction() as session:
                valid = await repository.still_valid(session, {one.holds for one in lasting})
        except DATABASE_ERRORS as error:  # nobody is revoked meanwhile; new requests are refused
            logger.warning("open requests cannot be looked at, trying again: %s", error)
            return
        ended = [one for one in lasting if one.holds not in valid and one in self._open]
        if ended:  # whoever asks again why it was broken off is to be told
            self._recognised.forget_all()
        for one in ended:
            one.limit.reschedule(asyncio.get_running_loop().time())


class EndWhenRevoked:
    """ASGI middleware: ends a request that `OpenRequests` finds to stand on nothing any more.

    One that has not been answered yet gets 401; a stream is broken off, and who reads it sees that it is not whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def observed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        limit = asyncio.timeout(None)
        scope[_SCOPE] = found = _Open(limit)
        try:
            async with limit:
                await self._app(scope, receive, observed)
        except TimeoutError:
            if not limit.expired():
                raise
            REVOKED.inc()
            logger.info("ended a request for %s: its token or session is not valid any more", scope["path"])
            if not started:
                response = await answer(Request(scope), unauthorized("bad_token", service.NOT_VALID))
                await response(scope, receive, send)
        finally:
            open_requests: OpenRequests | None = getattr(scope["app"].state, "open_requests", None)
            if open_requests is not None:
                open_requests.forget(found)
