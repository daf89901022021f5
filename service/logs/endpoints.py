"""HTTP: what an experiment's driver and its trials print."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from adadim_core.storage.address import in_object_store
from service.auth.dependencies import Viewer
from service.context import CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.logs import driver, trial
from service.problems import PROBLEM_RESPONSES
from service.shares import PlacedResponse, Shares
from service.trials.dependencies import StoredTrial

readers = Shares("logs", 64, each=16)
"""Each follower holds a connection to Ray, or an open file."""

router = APIRouter(prefix="/api/v1", tags=["logs"], responses=PROBLEM_RESPONSES)


@router.get("/experiments/{experiment_id}/logs", response_class=PlainTextResponse)
async def read_logs(
    experiment_id: ExperimentId,
    principal: Viewer,
    context: CurrentContext,
    *,
    follow: Annotated[bool, Query(description="Stream until the experiment ends.")] = False,
) -> StreamingResponse:
    """The log of the latest attempt; with `follow`, what is added to it, through later attempts too."""
    async with context.database.transaction() as session:
        await experiments.find(session, experiment_id)
    return _plain(driver.read(context, experiment_id, follow=follow), principal.name)


@router.get("/trials/{trial_id}/logs", response_class=PlainTextResponse)
async def read_trial_logs(
    stored: StoredTrial,
    principal: Viewer,
    context: CurrentContext,
    *,
    follow: Annotated[bool, Query(description="Stream until the trial ends.")] = False,
) -> Response:
    """What one trial printed, with a line an epoch and its error if it failed."""
    row, location = stored
    if in_object_store(location):
        async with readers.place(principal.name):
            return PlainTextResponse(await trial.uploaded(location, row))
    trial.check_visible(location, row)
    return _plain(trial.read(context, row, location, follow=follow), principal.name)


def _plain(pieces: AsyncGenerator[str], owner: str) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return PlacedResponse(readers, owner, pieces, media_type="text/plain; charset=utf-8", headers=headers)
