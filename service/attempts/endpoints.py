"""HTTP: the workers' reports. The only route a worker needs, and the only one its token opens."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from adadim_core.spec.report import Report, ReportReply
from service.attempts import service
from service.auth.denials import too_many
from service.auth.dependencies import bearer_token
from service.auth.service import hash_token
from service.context import CurrentContext
from service.experiments.dependencies import MAX_ID
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1/attempts", tags=["workers"], responses=PROBLEM_RESPONSES)

MAX_REPORT_BYTES = 8 * 1024 * 1024


async def attempt(attempt_id: Annotated[int, Path(ge=1, le=MAX_ID)], request: Request, context: CurrentContext) -> int:
    """A dependency, so that the token is checked before megabytes of report are."""
    token = bearer_token(request)
    if token is not None and (wait := context.report_rates.take(hash_token(token))):
        raise too_many(wait, context.report_rates.rate, "attempt's")
    async with context.database.transaction() as session:
        await service.authenticate(session, attempt_id, token)
    return attempt_id


AuthenticatedAttempt = Annotated[int, Depends(attempt)]


class TokenExchange(BaseModel):
    """A token the worker made, by its hash: the token itself arrives with the first report."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@router.put("/{attempt_id}/token", status_code=204)
async def exchange_token(
    attempt_id: AuthenticatedAttempt, exchange: TokenExchange, request: Request, context: CurrentContext
) -> None:
    """Void the token the job was started with for the worker's own. A worker's first request."""
    async with context.database.transaction() as session:
        await service.replace_token(session, attempt_id, bearer_token(request), bytes.fromhex(exchange.sha256))


@router.post("/{attempt_id}/reports", max_body_size=MAX_REPORT_BYTES)
async def receive_report(attempt_id: AuthenticatedAttempt, report: Report, context: CurrentContext) -> ReportReply:
    """Points, trial states, heartbeat and outcome of one attempt. Answered once they are committed."""
    async with context.database.transaction() as session:
        return await service.receive(session, attempt_id, report)
