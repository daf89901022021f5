"""HTTP: the workers' reports. The only route a worker needs, and the only one its token opens."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from adadim_core.spec.report import Report, ReportReply
from service.attempts import service
from service.auth.dependencies import bearer_token
from service.context import CurrentContext
from service.experiments.dependencies import MAX_ID
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1/attempts", tags=["workers"], responses=PROBLEM_RESPONSES)

MAX_REPORT_BYTES = 8 * 1024 * 1024


async def _authenticated(
    attempt_id: Annotated[int, Path(ge=1, le=MAX_ID)], request: Request, context: CurrentContext
) -> int:
    """A dependency, so that the token is checked before megabytes of report are."""
    async with context.database.transaction() as session:
        await service.authenticate(session, attempt_id, bearer_token(request))
    return attempt_id


AuthenticatedAttempt = Annotated[int, Depends(_authenticated)]


@router.post("/{attempt_id}/reports", max_body_size=MAX_REPORT_BYTES)
async def receive_report(attempt_id: AuthenticatedAttempt, report: Report, context: CurrentContext) -> ReportReply:
    """Points, trial states, heartbeat and outcome of one attempt. Answered once they are committed."""
    async with context.database.transaction() as session:
        return await service.receive(session, attempt_id, report)
