"""HTTP: trials."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from service.auth.dependencies import Viewer
from service.context import CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import MAX_ID, ExperimentId
from service.problems import PROBLEM_RESPONSES, not_found
from service.trials import repository
from service.trials.schemas import TrialPage, TrialRead

router = APIRouter(prefix="/api/v1", tags=["trials"], responses=PROBLEM_RESPONSES)

TrialId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("/experiments/{experiment_id}/trials")
async def list_trials(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$")] = None,
) -> TrialPage:
    """The trials of an experiment in the order of its plan."""
    async with context.database.transaction() as session:
        await experiments.find(session, experiment_id)
        after = int(cursor) if cursor else None
        rows = await repository.page(session, experiment_id, after=after, limit=limit + 1)
    items = [TrialRead.model_validate(row) for row in rows[:limit]]
    return TrialPage(items=items, next_cursor=str(items[-1].number) if len(rows) > limit else None)


@router.get("/trials/{trial_id}")
async def read_trial(trial_id: TrialId, _: Viewer, context: CurrentContext) -> TrialRead:
    """One trial."""
    async with context.database.transaction() as session:
        trial = await repository.get(session, trial_id)
    if trial is None:
        raise not_found("trial", trial_id)
    return TrialRead.model_validate(trial)
