"""HTTP: an experiment's points, or its trials, as a file."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from service.auth.dependencies import Viewer
from service.context import Context, CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.exports import service
from service.exports.formats import FORMATS
from service.problems import PROBLEM_RESPONSES
from service.shares import PlacedResponse

router = APIRouter(prefix="/api/v1", tags=["exports"], responses=PROBLEM_RESPONSES)

if TYPE_CHECKING:
    _Name = str
else:  # a Literal, so that the document of the API lists the names
    _Name = Literal[tuple(FORMATS)]

_Form = Annotated[_Name, Path(description=f"{' or '.join(FORMATS)}.")]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            name.partition(";")[0]: {"schema": {"type": "string"}}
            for name in (kind.media_type for kind in FORMATS.values())
        }
    }
}


@router.get("/experiments/{experiment_id}/points.{form}", response_class=StreamingResponse, responses=_RESPONSES)
async def export_points(
    experiment_id: ExperimentId, form: _Form, principal: Viewer, context: CurrentContext
) -> StreamingResponse:
    """Every point of an experiment, one row a point: trial, metric, step, epoch, time and value, then the trial's
    configuration, its seed, and a column for every swept field, named by its dotted path.

    A file that breaks off (no end of the transfer, no Parquet footer) is not whole: ask again.
    """
    return await _export(context, principal.name, experiment_id, "points", form)


@router.get("/experiments/{experiment_id}/trials.{form}", response_class=StreamingResponse, responses=_RESPONSES)
async def export_trials(
    experiment_id: ExperimentId, form: _Form, principal: Viewer, context: CurrentContext
) -> StreamingResponse:
    """One row a trial: configuration, seed, a column for every swept field, state, last and best values, duration.

    A field that is a whole section is a column of words ("fixed 0.5"), and one for each of its own fields.
    """
    return await _export(context, principal.name, experiment_id, "trials", form)


async def _export(context: Context, owner: str, experiment_id: int, rows: service.Rows, form: str) -> StreamingResponse:
    async with context.database.transaction() as session:
        experiment = await experiments.find(session, experiment_id)
    kind = FORMATS[form]
    encoder = kind.make({"experiment": experiment.id, "name": experiment.name, "spec": experiment.spec})
    name = f"experiment-{experiment_id}{'-trials' if rows == 'trials' else ''}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Accel-Buffering": "no"}
    pieces = service.stream(context, experiment_id, rows, encoder)
    return PlacedResponse(service.under_way, owner, pieces, media_type=kind.media_type, headers=headers)
