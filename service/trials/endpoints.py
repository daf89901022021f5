"""HTTP: trials."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from adadim_core.storage import layout
from adadim_core.storage.address import shown
from adadim_core.storage.reading import open_file
from service.auth.dependencies import Viewer
from service.compression import compressed
from service.context import CurrentContext
from service.database.tables import Trial
from service.errors import NotFoundError
from service.experiments import artefacts
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.problems import PROBLEM_RESPONSES, Problem
from service.shares import Shares
from service.trials import repository, service
from service.trials.dependencies import StoredTrial, TrialId
from service.trials.schemas import TrialDetail, TrialPage

router = APIRouter(prefix="/api/v1", tags=["trials"], responses=PROBLEM_RESPONSES)

_downloads = Shares("encoders", 32, each=8)
"""Each holds an open file, or a connection to an object store."""
_PIECE_BYTES = 512 * 1024


@router.get("/experiments/{experiment_id}/trials", response_model=TrialPage)
async def list_trials(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    request: Request,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$")] = None,
) -> Response:
    """The trials of an experiment in the order of its plan."""
    async with context.database.transaction() as session:
        spec = (await experiments.find(session, experiment_id)).spec
        after = int(cursor) if cursor else None
        rows = await repository.page(session, experiment_id, after=after, limit=limit + 1)
    next_cursor = str(rows[limit - 1].number) if len(rows) > limit else None
    body = await asyncio.to_thread(_written, rows[:limit], spec, next_cursor)
    return await compressed(request, body)


@router.get("/trials/{trial_id}")
async def read_trial(trial_id: TrialId, _: Viewer, context: CurrentContext) -> TrialDetail:
    """One trial with its configuration."""
    async with context.database.transaction() as session:
        trial = await repository.get(session, trial_id)
        if trial is None:
            raise NotFoundError.of("trial", trial_id)
        spec = (await experiments.find(session, trial.experiment_id)).spec
    return service.detailed(trial, spec)


@router.get(
    "/trials/{trial_id}/encoder",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}},
)
async def read_encoder(stored: StoredTrial) -> StreamingResponse:
    """The encoder that a finished trial exported, as one file that `adadim_core.load_encoder` takes."""
    trial, location = stored
    path = layout.encoder(trial.number)
    try:
        file, size = await asyncio.to_thread(open_file, location, path)
    except FileNotFoundError:
        detail = f"There is no encoder: a trial that finishes exports one, and this one is {trial.state}."
        if trial.state in ("succeeded", "stopped"):
            detail = (
                f"There is no {shown(location)}/{path}; where it is a folder, mount the cluster's storage. "
                "The files of an imported run lie where it ran."
            )
        raise Problem(404, "Not found", detail) from None
    except OSError as error:
        raise artefacts.away(error) from None
    name = f"experiment-{trial.experiment_id}-trial-{trial.number}-encoder.safetensors"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_pieces(file), headers=headers, media_type="application/octet-stream")


def _written(trials: Sequence[Trial], spec: Mapping[str, Any], next_cursor: str | None) -> bytes:
    return TrialPage(items=service.shown(trials, spec), next_cursor=next_cursor).model_dump_json().encode()


async def _pieces(file: Any) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
