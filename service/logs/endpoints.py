"""HTTP: what an experiment's driver and its trials print."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from adadim_core.storage.address import in_object_store
from service.auth.dependencies import Viewer
from service.context import CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.logs import driver, trial
from service.problems import PROBLEM_RESPONSES, Problem
from service.trials.dependencies import StoredTrial

MAX_READERS = 64
"""Logs that are read at once from this process: each follower holds a connection to Ray, or an open file."""
_readers = asyncio.Semaphore(MAX_READERS)

router = APIRouter(prefix="/api/v1", tags=["logs"], responses=PROBLEM_RESPONSES)


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
    return _plain(driver.read(context, experiment_id, follow=follow))


@router.get("/trials/{trial_id}/logs", response_class=PlainTextResponse)
async def read_trial_logs(
    stored: StoredTrial,
    context: CurrentContext,
    *,
    follow: Annotated[bool, Query(description="Stream until the trial ends.")] = False,
) -> Response:
    """What one trial printed, with a line an epoch and its error if it failed."""
    row, location = stored
    if in_object_store(location):
        return PlainTextResponse(await trial.uploaded(location, row))
    trial.check_visible(location, row)
    return _plain(trial.read(context, row, location, follow=follow))


def _plain(pieces: AsyncGenerator[str]) -> StreamingResponse:
    if _readers.locked():
        detail = f"{MAX_READERS} logs are being read here, which is the limit; try again later."
        raise Problem(429, "Too many readers", detail, headers={"Retry-After": "10"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_counted(pieces), media_type="text/plain; charset=utf-8", headers=headers)


async def _counted(pieces: AsyncGenerator[str]) -> AsyncIterator[str]:
    async with _readers, aclosing(pieces):
        async for piece in pieces:
            yield piece
