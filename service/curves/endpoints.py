"""HTTP: curves by configuration."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.answers import repository as rows_of_answers
from service.auth.dependencies import Viewer
from service.compression import compressed
from service.context import CurrentContext
from service.curves import service
from service.curves.schemas import CurvesRead
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.metrics import reading
from service.metrics.endpoints import InRange, MetricNames, split_names
from service.problems import PROBLEM_RESPONSES

router = APIRouter(prefix="/api/v1", tags=["metrics"], responses=PROBLEM_RESPONSES)

_at_once = asyncio.Semaphore(2)
"""Curves under way: however many pages follow, reports have the rest."""


@router.get("/experiments/{experiment_id}/curves", response_class=Response, responses={200: {"model": CurvesRead}})
async def read_curves(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    request: Request,
    span: InRange,
    *,
    metrics: MetricNames = None,
    points: Annotated[int, Query(ge=4, le=2000, description="Positions of a metric at most.")] = 200,
) -> Response:
    """The course of each metric by configuration: mean over its trials, with the 95 % t interval of the mean.

    `by` says what the positions are, and `start` and `end` which of them; by time they are seconds since a trial's
    first point, and start and end do not count.
    """
    async with _at_once:
        async with context.database.snapshot() as session:
            experiment = await experiments.find(session, experiment_id)
            trials = await rows_of_answers.trials(session, experiment_id)
            names = split_names(metrics)
            each = service.points_of_each(len(trials) * (len(names) if names is not None else 20), points)
            by = span.column
            within = reading.Range("step") if by == "time" else span
            found = await reading.read(session, experiment, trials, names, each, within)
            seq, spec = experiment.seq, experiment.spec
        body = await asyncio.to_thread(service.curves_json, experiment_id, seq, spec, trials, found, by, points)
        return await compressed(request, body)
