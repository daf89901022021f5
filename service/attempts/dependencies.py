"""FastAPI dependencies of the workers' routes: the inbox of the running service, and whose report it is."""

import asyncio
import contextlib
import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request

from service.attempts import repository, service
from service.attempts.body import Delivery, is_binary, parse
from service.attempts.inbox import Inbox
from service.auth.denials import too_many
from service.auth.dependencies import bearer_token
from service.context import CurrentContext
from service.experiments.dependencies import MAX_ID
from service.secret import hash_token

_MAX_KNOWN_TOKENS = 10_000
_LARGE = 64 * 1024
"""Bytes of a report that take long enough to read to leave the event loop for it."""


@dataclass(frozen=True)
class KnownToken:
    """An attempt's token as it was when it was looked up."""

    token_hash: bytes
    owner: str
    """Whose experiment it is."""


@dataclass
class Reporting:
    """What workers' requests need in addition to the context. A running service has one, as `app.state.reporting`."""

    inbox: Inbox
    tokens: dict[int, KnownToken] = field(default_factory=dict)
    """By attempt, those seen before: a report needs no look-up."""
    _large_json: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One such report is read at a time: as JSON it takes ninety times its size meanwhile."""

    async def parse(self, body: bytes, kind: str) -> Delivery:
        """Read a report's body, off the event loop where it is large.

        Raises what `body.parse` does.
        """
        if len(body) < _LARGE:
            return parse(body, kind)
        async with contextlib.nullcontext() if is_binary(kind) else self._large_json:
            return await asyncio.to_thread(parse, body, kind)


async def get_reporting(request: Request) -> Reporting:
    """The one of the application a request came to."""
    reporting: Reporting = request.app.state.reporting
    return reporting


CurrentReporting = Annotated[Reporting, Depends(get_reporting)]


async def authenticated_attempt(
    attempt_id: Annotated[int, Path(ge=1, le=MAX_ID)],
    request: Request,
    context: CurrentContext,
    reporting: CurrentReporting,
) -> int:
    """The attempt whose token the request carries. Asked before megabytes of report are read."""
    token = bearer_token(request)
    hashed = None if token is None else hash_token(token)
    if hashed is not None and (wait := context.report_rates.take(hashed)):
        raise too_many(wait, context.report_rates.rate, "attempt's")
    known = reporting.tokens.get(attempt_id)
    if hashed is None or known is None or not hmac.compare_digest(known.token_hash, hashed):
        async with context.database.transaction(of_report=True) as session:
            token_hash = await service.authenticate(session, attempt_id, token)
            owner = await repository.owner(session, attempt_id)
        # A report's token is compared again at the fence.
        if len(reporting.tokens) >= _MAX_KNOWN_TOKENS:
            reporting.tokens.clear()
        reporting.tokens[attempt_id] = KnownToken(token_hash, owner)
    return attempt_id


async def job_of_attempt(
    attempt_id: Annotated[int, Path(ge=1, le=MAX_ID)], request: Request, context: CurrentContext
) -> int:
    """The attempt whose job's code the request carries."""
    code = bearer_token(request)
    if code is not None and (wait := context.request_rates.take(hash_token(code))):
        raise too_many(wait, context.request_rates.rate, "attempt's")
    async with context.database.transaction(of_report=True) as session:
        await service.authenticate_job(session, attempt_id, code)
    return attempt_id


AuthenticatedAttempt = Annotated[int, Depends(authenticated_attempt)]
JobOfAttempt = Annotated[int, Depends(job_of_attempt)]
