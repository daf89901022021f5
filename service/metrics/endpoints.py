"""HTTP: metric series."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.auth.dependencies import Viewer
from service.context import CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.metrics import service
from service.metrics.schemas import MetricsRead
from service.problems import PROBLEM_RESPONSES, not_found
from service.trials import repository as trials
from service.trials.endpoints import TrialId

router = APIRouter(prefix="/api/v1", tags=["metrics"], responses=PROBLEM_RESPONSES)

_MAX_TRIALS = 1000

MetricNames = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*$",
        max_length=1000,
        description="Comma-separated metric names, as h_r,i_rz; default: all.",
    ),
]
MaxPoints = Annotated[int, Query(ge=4, le=10_000, description="Points a series; longer ones are downsampled.")]


@router.get("/experiments/{experiment_id}/metrics")
async def read_experiment_metrics(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    metrics: MetricNames = None,
    max_points: MaxPoints = 1000,
) -> MetricsRead:
    """Series of all trials of an experiment, downsampled so that spikes stay visible."""
    async with context.database.transaction() as session:
        # The event number is read first: points that arrive in between come again with the live stream.
        experiment = await experiments.find(session, experiment_id)
        rows = await trials.page(session, experiment_id, after=None, limit=_MAX_TRIALS)
        return await service.read(session, experiment, rows, _split(metrics), max_points)


@router.get("/trials/{trial_id}/metrics")
async def read_trial_metrics(
    trial_id: TrialId,
    _: Viewer,
    context: CurrentContext,
    *,
    metrics: MetricNames = None,
    max_points: MaxPoints = 1000,
) -> MetricsRead:
    """Series of one trial."""
    async with context.database.transaction() as session:
        trial = await trials.get(session, trial_id)
        if trial is None:
            raise not_found("trial", trial_id)
        experiment = await experiments.find(session, trial.experiment_id)
        return await service.read(session, experiment, [trial], _split(metrics), max_points)


def _split(metrics: str | None) -> list[str] | None:
    return None if metrics is None else metrics.split(",")
