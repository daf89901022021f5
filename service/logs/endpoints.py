"""HTTP: the log of an experiment's driver, as Ray has it or as it was kept."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, StreamingResponse

from service.attempts import repository as attempts
from service.auth.dependencies import Viewer
from service.cluster.jobs import ClusterUnavailable
from service.context import Context, CurrentContext
from service.database.tables import Attempt
from service.experiments import repository as experiment_rows
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.experiments.states import EXPERIMENT_ENDED
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1", tags=["logs"], responses=PROBLEM_RESPONSES)

_FOLLOW_INTERVAL_S = 1.0


@router.get("/experiments/{experiment_id}/logs", response_class=PlainTextResponse)
async def read_logs(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    follow: Annotated[bool, Query(description="Stream until the experiment ends.")] = False,
) -> StreamingResponse:
    """The log of the latest attempt; with `follow`, what is added to it, through later attempts too."""
    async with context.database.transaction() as session:
        await experiments.find(session, experiment_id)
    return StreamingResponse(_stream(context, experiment_id, follow), media_type="text/plain; charset=utf-8")


async def _stream(context: Context, experiment_id: int, follow: bool) -> AsyncIterator[str]:
    number, sent = 0, 0
    while True:
        async with context.database.transaction() as session:
            experiment = await experiment_rows.get(session, experiment_id)
            attempt = await attempts.current(session, experiment_id)
            if attempt is not None and attempt.closed_at is not None:
                await session.refresh(attempt, ["log"])
        if attempt is not None:
            if attempt.number != number:
                number, sent = attempt.number, 0
            log = await _log(context, attempt)
            if len(log) > sent:
                yield log[sent:]
                sent = len(log)
        ended = experiment is None or experiment.state in EXPERIMENT_ENDED
        if not follow or context.closing or (ended and (attempt is None or attempt.closed_at is not None)):
            return
        await asyncio.sleep(_FOLLOW_INTERVAL_S)


async def _log(context: Context, attempt: Attempt) -> str:
    if attempt.closed_at is not None:
        return attempt.log or ""
    try:
        return await context.jobs.logs(attempt.submission_id) or ""
    except ClusterUnavailable:
        return ""
