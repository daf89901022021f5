"""HTTP: the workers' reports. The only route a worker needs, and the only one its token opens."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from sqlalchemy import func

from adadim_core.spec.report import Report, ReportReply
from service.attempts import repository, service
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


@router.post("/{attempt_id}/reports", max_body_size=MAX_REPORT_BYTES)
async def receive_report(attempt_id: AuthenticatedAttempt, report: Report, context: CurrentContext) -> ReportReply:
    """Points, trial states, heartbeat and outcome of one attempt. Answered once they are committed."""
    try:
        async with context.database.transaction() as session:
            return await service.receive(session, attempt_id, report)
    except service.Superseded:
        async with context.database.transaction() as session:
            await repository.change(session, attempt_id, refused_at=func.now())
        raise
