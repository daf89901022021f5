"""FastAPI dependencies of the workers' routes: the inbox of the running service, and whose report it is."""

import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request

from service.attempts import service
from service.attempts.inbox import Inbox
from service.auth.denials import too_many
from service.auth.dependencies import bearer_token
from service.context import CurrentContext
from service.experiments.dependencies import MAX_ID
from service.secret import hash_token

_MAX_KNOWN_TOKENS = 10_000


@dataclass
class Reporting:
    """What workers' requests need beside the context. A running service has one, as `app.state.reporting`."""

    inbox: Inbox
    tokens: dict[int, bytes] = field(default_factory=dict)
    """Attempts' numbers to the hashes of their tokens, as seen before: a report needs no look-up."""


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
    if hashed is None or known is None or not hmac.compare_digest(known, hashed):
        async with context.database.transaction() as session:
            known = await service.authenticate(session, attempt_id, token)
        # An attempt changes its token once, before it reports; a report's is compared again at the fence.
        if len(reporting.tokens) >= _MAX_KNOWN_TOKENS:
            reporting.tokens.clear()
        reporting.tokens[attempt_id] = known
    return attempt_id


AuthenticatedAttempt = Annotated[int, Depends(authenticated_attempt)]
