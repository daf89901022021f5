"""HTTP: metric series of trials, and their last values."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from service.auth.dependencies import Viewer
from service.compression import compressed
from service.context import CurrentContext
from service.database.tables import Experiment
from service.errors import NotFoundError
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.metrics import answers, reading
from service.metrics.reading import Range
from service.metrics.schemas import LastRead, MetricsRead
from service.problems import PROBLEM_RESPONSES, Problem
from service.shares import Shares
from service.trials import repository as trials
from service.trials.dependencies import TrialId

router = APIRouter(prefix="/api/v1", tags=["metrics"], responses=PROBLEM_RESPONSES)

_MAX_TRIALS = 10_000
_reads = Shares("reads of metrics", 4, each=2, line=32, patience_s=20.0)
"""However many ask, connections and threads are left for reports; whoever asks much waits behind those who do not."""

MetricNames = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*$",
        max_length=1000,
        description="Comma-separated metric names, as h_r,i_rz; default: all.",
    ),
]
TrialNumbers = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*$",
        max_length=10_000,
        description="Numbers of trials, as 0,3,10-19; default: all.",
    ),
]
TrialStates = Annotated[
    str | None,
    Query(pattern=r"^[a-z]+(,[a-z]+)*$", max_length=200, description="States of trials, as running,succeeded."),
]
MaxPoints = Annotated[
    int,
    Query(ge=4, le=10_000, description="Points a series; longer ones are downsampled. Below 6, up to 6 may come."),
]
Raw = Annotated[bool, Query(description="Every point of the range; max_points does not count then.")]


def _range(
    by: Annotated[Literal["step", "epoch", "time"], Query(description="What `start` and `end` are.")] = "step",
    start: Annotated[float | None, Query(allow_inf_nan=False, description="From here on, included.")] = None,
    end: Annotated[float | None, Query(allow_inf_nan=False, description="Up to here, included.")] = None,
) -> Range:
    return Range(by, start, end)


InRange = Annotated[Range, Depends(_range)]

_SERIES: dict[int | str, dict[str, Any]] = {
    200: {"model": MetricsRead, "content": {answers.ARROW_MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


@router.get("/experiments/{experiment_id}/metrics", response_class=Response, responses=_SERIES)
async def read_experiment_metrics(
    experiment_id: ExperimentId,
    principal: Viewer,
    context: CurrentContext,
    request: Request,
    span: InRange,
    *,
    metrics: MetricNames = None,
    trial_numbers: Annotated[TrialNumbers, Query(alias="trials")] = None,
    states: TrialStates = None,
    max_points: MaxPoints = 1000,
    raw: Raw = False,
) -> Response:
    """Series of an experiment's trials, downsampled so that spikes and NaN runs stay visible.

    With `Accept: application/vnd.apache.arrow.stream` the answer is an Arrow IPC stream.
    """
    async with _reads.place(principal.name):
        async with context.database.snapshot() as session:
            # One snapshot: points that arrive meanwhile come with the live stream after the answer's event number.
            experiment = await experiments.find(session, experiment_id)
            rows = await _chosen(session, experiment, trial_numbers, states)
            most = None if raw else max_points
            found = await reading.read(session, experiment, rows, split_names(metrics), most, span)
        return await _answer(request, experiment, found)


@router.get("/trials/{trial_id}/metrics", response_class=Response, responses=_SERIES)
async def read_trial_metrics(
    trial_id: TrialId,
    principal: Viewer,
    context: CurrentContext,
    request: Request,
    span: InRange,
    *,
    metrics: MetricNames = None,
    max_points: MaxPoints = 1000,
    raw: Raw = False,
) -> Response:
    """Series of one trial."""
    async with _reads.place(principal.name):
        async with context.database.snapshot() as session:
            trial = await trials.get(session, trial_id)
            if trial is None:
                raise NotFoundError.of("trial", trial_id)
            experiment = await experiments.find(session, trial.experiment_id)
            most = None if raw else max_points
            found = await reading.read(session, experiment, [trial], split_names(metrics), most, span)
        return await _answer(request, experiment, found)


@router.get("/experiments/{experiment_id}/metrics/last", response_class=Response, responses={200: {"model": LastRead}})
async def read_last_values(
    experiment_id: ExperimentId,
    principal: Viewer,
    context: CurrentContext,
    request: Request,
    *,
    metrics: MetricNames = None,
    trial_numbers: Annotated[TrialNumbers, Query(alias="trials")] = None,
    states: TrialStates = None,
) -> Response:
    """The value of every metric at its highest step, of all trials: a table in columns."""
    async with _reads.place(principal.name), context.database.snapshot() as session:
        experiment = await experiments.find(session, experiment_id)
        rows = await _chosen(session, experiment, trial_numbers, states, latest=True)
    body = answers.last_json(experiment.id, experiment.seq, rows, split_names(metrics))
    return await compressed(request, body)


def split_names(metrics: str | None) -> list[str] | None:
    """The names in a comma-separated list."""
    return None if metrics is None else metrics.split(",")


async def _chosen(
    session: AsyncSession, experiment: Experiment, numbers: str | None, states: str | None, *, latest: bool = False
) -> list[Row[Any]]:
    wanted: set[int] | None = None
    if numbers is not None:
        wanted = set()
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            wanted |= set(range(int(first), min(int(last or first), experiment.trial_count) + 1))
    chosen = None if states is None else states.split(",")
    rows = await trials.outline(session, experiment.id, latest=latest)
    rows = [row for row in rows if (wanted is None or row.number in wanted) and (chosen is None or row.state in chosen)]
    if len(rows) > _MAX_TRIALS:
        raise Problem(422, "Too many trials", f"Ask for at most {_MAX_TRIALS} trials at once: trials=0-{_MAX_TRIALS}.")
    return rows


async def _answer(request: Request, experiment: Experiment, found: reading.Found) -> Response:
    if _accepts_arrow(request.headers.get("accept", "")):
        body = await asyncio.to_thread(answers.series_arrow, experiment.id, experiment.seq, found)
        return Response(body, media_type=answers.ARROW_MEDIA_TYPE, headers={"Vary": "Accept"})
    body = await asyncio.to_thread(answers.series_json, experiment.id, experiment.seq, found)
    return await compressed(request, body)


def _accepts_arrow(accept: str) -> bool:
    return answers.ARROW_MEDIA_TYPE in (part.partition(";")[0].strip() for part in accept.split(","))
