"""HTTP: submitting and reading experiments. What is done to those that exist is in service/actions."""

import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from adadim_core.spec import MAX_LABELS, MAX_SPEC_BYTES, json_schema, plan_summary
from service.auth.dependencies import Submitter, Viewer
from service.compression import Unchanging
from service.context import Context, CurrentContext
from service.experiments import estimates, examples, listing, repository, service
from service.experiments.dependencies import ExperimentId, IdempotencyKey, allowed_priority, checked
from service.experiments.listing import Sort
from service.experiments.schemas import (
    AttemptPage,
    AttemptRead,
    DataRead,
    ExamplesRead,
    ExperimentDetail,
    ExperimentPage,
    ExperimentRead,
    HistoryPage,
    PlanRead,
    Priority,
    TransitionRead,
    TrialPlanRead,
)
from service.experiments.states import ExperimentState
from service.problems import PROBLEM_RESPONSES, Problem

router = APIRouter(prefix="/api/v1", tags=["experiments"], responses=PROBLEM_RESPONSES)

Row = TypeVar("Row")

_TEXT = r"^[^\x00]*$"

_SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An experiment spec; GET /api/v1/spec/schema describes it.",
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


@router.post(
    "/experiments",
    status_code=201,
    response_model=ExperimentDetail | PlanRead,
    openapi_extra=_SPEC_BODY,
    max_body_size=MAX_SPEC_BYTES,
)
async def submit_experiment(
    request: Request,
    response: Response,
    principal: Submitter,
    context: CurrentContext,
    *,
    dry_run: Annotated[bool, Query(description="Check and plan only; nothing is stored.")] = False,
    priority: Annotated[Priority, Query()] = 0,
    idempotency_key: IdempotencyKey = None,
) -> Response | PlanRead:
    """Submit a spec (YAML or JSON). The same Idempotency-Key gives the same experiment."""
    allowed_priority(priority, principal)
    body = await request.body()
    check = partial(service.read_spec, body, _syntax(request), context.settings.max_trials)
    submission = await checked(request, context, principal.name, check)
    if dry_run:
        response.status_code = 200
        trials = [TrialPlanRead(number=t.number, params=t.params) for t in submission.trials]
        spec = submission.spec
        async with context.database.transaction() as session:
            estimate = await estimates.estimated(session, spec, len(trials))
        return PlanRead(summary=plan_summary(spec), spec=spec.model_dump(mode="json"), trials=trials, estimate=estimate)
    experiment = await service.submit(
        context.database, submission, owner=principal.name, idempotency_key=idempotency_key, priority=priority
    )
    detail = ExperimentDetail.model_validate(experiment)
    location = {"Location": f"/api/v1/experiments/{detail.id}"}
    # Made here: the framework would check the answer once more before it writes it.
    return Response(detail.model_dump_json(), 201, location, "application/json")


@router.get("/experiments")
async def list_experiments(
    _: Viewer,
    context: CurrentContext,
    *,
    q: Annotated[
        str | None, Query(max_length=100, pattern=_TEXT, description="In name, description, owner, labels; a number.")
    ] = None,
    state: Annotated[list[ExperimentState] | None, Query(description="In one of these states.")] = None,
    owner: Annotated[str | None, Query(max_length=200, pattern=_TEXT)] = None,
    label: Annotated[
        list[Annotated[str, Field(max_length=110, pattern=_TEXT)]] | None,
        Query(max_length=MAX_LABELS, description="With all of these labels: key=value, or a key alone."),
    ] = None,
    sort: Annotated[Sort, Query(description="A column; with a minus the largest first.")] = "-id",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000, pattern=r"^[A-Za-z0-9_=-]+$")] = None,
) -> ExperimentPage:
    """Experiments, newest first if nothing else is asked for."""
    wanted = listing.Filter(text=q, states=state or (), owner=owner, labels=label or ())
    async with context.database.transaction() as session:
        rows, next_cursor = await listing.page(session, wanted, sort, cursor, limit)
        items = [ExperimentRead.model_validate(row) for row in rows]
        await service.add_states(session, context, items)
    return ExperimentPage(items=items, next_cursor=next_cursor)


@router.get("/experiments/{experiment_id}")
async def read_experiment(experiment_id: ExperimentId, _: Viewer, context: CurrentContext) -> ExperimentDetail:
    """One experiment with its spec."""
    async with context.database.transaction() as session:
        experiment = await service.find(session, experiment_id)
        detail = ExperimentDetail.model_validate(experiment)
        await service.add_states(session, context, [detail])
    return detail


@router.get("/experiments/{experiment_id}/history")
async def read_history(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> HistoryPage:
    """Every transition of an experiment: from which state to which, when, by whom and why. Oldest first."""
    rows, next_cursor = await _page(context, experiment_id, repository.transitions, lambda row: row.id, cursor, limit)
    return HistoryPage(items=[TransitionRead.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/experiments/{experiment_id}/data")
async def read_data(experiment_id: ExperimentId, _: Viewer, context: CurrentContext) -> DataRead:
    """What was read of the data sets that an experiment trains on: images, classes, splits, what was passed over."""
    async with context.database.transaction() as session:
        await service.find(session, experiment_id)
        found = await repository.data(session, experiment_id)
    return DataRead(items=[found[name] for name in sorted(found)])


@router.get("/experiments/{experiment_id}/attempts")
async def list_attempts(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$")] = None,
) -> AttemptPage:
    """The attempts of an experiment, one Ray job each: when they ran and how they ended. In their order."""
    rows, next_cursor = await _page(context, experiment_id, repository.attempts, lambda row: row.number, cursor, limit)
    return AttemptPage(items=[AttemptRead.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/spec/examples")
async def spec_examples(_: Viewer) -> ExamplesRead:
    """Specs to start from."""
    return ExamplesRead(items=examples.EXAMPLES)


@router.get("/spec/schema", response_model=dict[str, Any])
async def spec_schema(request: Request) -> Response:
    """JSON Schema of the spec."""
    return _schema().response(request)


@functools.cache  # anyone may ask for it, without a token
def _schema() -> Unchanging:
    return Unchanging(json.dumps(json_schema(), ensure_ascii=False, separators=(",", ":")).encode())


async def _page(
    context: Context,
    experiment_id: int,
    read: Callable[..., Awaitable[Sequence[Row]]],
    place: Callable[[Row], int],
    cursor: str | None,
    limit: int,
) -> tuple[Sequence[Row], str | None]:
    """What an experiment has in an order of `place`, behind the cursor; and the cursor behind that, if more follows."""
    async with context.database.transaction() as session:
        await service.find(session, experiment_id)
        rows = await read(session, experiment_id, after=int(cursor or 0), limit=limit + 1)
    return rows[:limit], str(place(rows[limit - 1])) if len(rows) > limit else None


def _syntax(request: Request) -> Literal["yaml", "json"]:
    media_type = request.headers.get("content-type", "application/yaml").partition(";")[0].strip().lower()
    if media_type in ("application/json", "text/json"):
        return "json"
    # curl's --data-binary sends form-urlencoded by default; YAML is meant.
    if media_type in ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "",
                      "application/x-www-form-urlencoded", "application/octet-stream"):  # fmt: skip
        return "yaml"
    raise Problem(415, "Unsupported media type", f"{media_type}: send application/yaml or application/json.")
