"""HTTP: answers."""

from fastapi import APIRouter, Request, Response

from adadim_core.answers.document import Answer, Importance
from service.answers import service
from service.auth.dependencies import Viewer
from service.compression import compressed
from service.context import CurrentContext
from service.experiments.dependencies import ExperimentId
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1", tags=["answers"], responses=PROBLEM_RESPONSES)


@router.get("/experiments/{experiment_id}/answer", response_model=Answer)
async def read_answer(
    experiment_id: ExperimentId, principal: Viewer, context: CurrentContext, request: Request
) -> Response:
    """Which configuration is best, by how much, which are not distinguishable, and what would settle the rest.

    Made from the trials' last values, also while they run. docs/answers.md states every formula.
    """
    async with context.database.transaction() as session:
        spec, trials = await service.read(session, experiment_id)
    answer = await service.analyse(spec, trials, asked_by=principal.name)
    return await compressed(request, answer.model_dump_json().encode())


@router.get("/experiments/{experiment_id}/importance")
async def read_importance(experiment_id: ExperimentId, principal: Viewer, context: CurrentContext) -> Importance:
    """How much of the order of configurations each swept field explains, with intervals; refused under 20 of them."""
    async with context.database.transaction() as session:
        spec, trials = await service.read(session, experiment_id)
    return await service.weigh(spec, trials, asked_by=principal.name)
