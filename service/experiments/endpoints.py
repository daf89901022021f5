"""HTTP: experiments."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from adadim_core.spec import MAX_SPEC_BYTES, json_schema
from service.auth.dependencies import Submitter, Viewer
from service.auth.service import Principal
from service.context import Context, CurrentContext
from service.experiments import actions, repository, service
from service.experiments.dependencies import ExperimentId, Owner
from service.experiments.lifecycle import ActionName
from service.experiments.schemas import (
    ActionRead,
    CloneRequest,
    ExperimentDetail,
    ExperimentPage,
    ExperimentRead,
    HistoryPage,
    PlanRead,
    Priority,
    TransitionRead,
    TrialPlanRead,
)
from service.problems import PROBLEM_RESPONSES, Problem
from service.queue import service as queue

router = APIRouter(prefix="/api/v1", tags=["experiments"], responses=PROBLEM_RESPONSES)

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200, pattern=r"^[!-~]+$")]

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
) -> ExperimentDetail | PlanRead:
    """Submit a spec (YAML or JSON). The same Idempotency-Key gives the same experiment."""
    body = await request.body()
    # In a thread: a spec of the largest size with thousands of choices takes a second to check.
    submission = await asyncio.to_thread(service.read_spec, body, _syntax(request), context.settings.max_trials)
    if dry_run:
        response.status_code = 200
        trials = [TrialPlanRead(number=t.number, params=t.params) for t in submission.trials]
        return PlanRead(spec=submission.spec.model_dump(mode="json"), trials=trials)
    async with context.database.transaction() as session:
        experiment = await service.submit(
            session, submission, owner=principal.name, idempotency_key=idempotency_key, priority=priority
        )
        detail = ExperimentDetail.model_validate(experiment)
    response.headers["Location"] = f"/api/v1/experiments/{detail.id}"
    return detail


@router.get("/experiments")
async def list_experiments(
    _: Viewer,
    context: CurrentContext,
    *,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> ExperimentPage:
    """Experiments, newest first."""
    async with context.database.transaction() as session:
        rows = await repository.page(session, before=int(cursor) if cursor else None, limit=limit + 1)
        waiting = await queue.waiting(session, context, rows[:limit])
    items = [ExperimentRead.model_validate(row) for row in rows[:limit]]
    for item in items:
        item.waiting = waiting.get(item.id)
    return ExperimentPage(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)


@router.get("/experiments/{experiment_id}")
async def read_experiment(experiment_id: ExperimentId, _: Viewer, context: CurrentContext) -> ExperimentDetail:
    """One experiment with its spec."""
    async with context.database.transaction() as session:
        experiment = await service.find(session, experiment_id)
        waiting = await queue.waiting(session, context, [experiment])
    detail = ExperimentDetail.model_validate(experiment)
    detail.waiting = waiting.get(experiment_id)
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
    async with context.database.transaction() as session:
        await service.find(session, experiment_id)
        after = int(cursor) if cursor else None
        rows = await repository.transitions(session, experiment_id, after=after, limit=limit + 1)
    items = [TransitionRead.model_validate(row) for row in rows[:limit]]
    return HistoryPage(items=items, next_cursor=str(rows[limit - 1].id) if len(rows) > limit else None)


async def _act(context: Context, name: ActionName, experiment_id: int, principal: Principal) -> ActionRead:
    async with context.database.transaction() as session:
        done = await actions.act(session, name, experiment_id, by=principal.name)
        await session.refresh(done.experiment)
        shown = ExperimentRead.model_validate(done.experiment)
    return ActionRead(**shown.model_dump(), changed=done.changed, message=done.message)


@router.post("/experiments/{experiment_id}/cancel")
async def cancel_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """End an experiment. What it has reported stays; `retry` goes on from its checkpoints."""
    return await _act(context, "cancel", experiment_id, principal)


@router.post("/experiments/{experiment_id}/pause")
async def pause_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Free the cluster: the job ends, its trials keep their checkpoints until `resume`."""
    return await _act(context, "pause", experiment_id, principal)


@router.post("/experiments/{experiment_id}/resume")
async def resume_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Queue a paused experiment again; it goes on from its checkpoints."""
    return await _act(context, "resume", experiment_id, principal)


@router.post("/experiments/{experiment_id}/retry")
async def retry_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Queue a failed or cancelled experiment again: trials that did not finish go on from their checkpoints."""
    return await _act(context, "retry", experiment_id, principal)


@router.post("/experiments/{experiment_id}/clone", status_code=201)
async def clone_experiment(
    experiment_id: ExperimentId,
    clone: CloneRequest,
    response: Response,
    principal: Submitter,
    context: CurrentContext,
    *,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentDetail:
    """Submit an experiment's spec as a new one, with some fields changed if you like."""
    async with context.database.transaction() as session:
        source = await service.find(session, experiment_id)
    submission = await asyncio.to_thread(actions.cloned, source, clone.changes, context.settings.max_trials)
    async with context.database.transaction() as session:
        experiment = await service.submit(
            session,
            submission,
            owner=principal.name,
            idempotency_key=idempotency_key,
            priority=source.priority if clone.priority is None else clone.priority,
            reason=f"clone of experiment {experiment_id}",
        )
        detail = ExperimentDetail.model_validate(experiment)
    response.headers["Location"] = f"/api/v1/experiments/{detail.id}"
    return detail


@router.delete("/experiments/{experiment_id}", status_code=202)
async def delete_experiment(
    experiment_id: ExperimentId,
    principal: Owner,
    context: CurrentContext,
    *,
    confirm: Annotated[bool, Query(description="Its checkpoints, encoders and results go too: say true.")] = False,
) -> ActionRead:
    """Delete an experiment with its points, logs and artefacts. It is gone when its job is; until then `deleting`."""
    if not confirm:
        async with context.database.transaction() as session:
            experiment = await service.find(session, experiment_id)
        raise Problem(
            409,
            "Confirmation needed",
            f"Deleting experiment {experiment_id} ({experiment.name}) removes its {experiment.trial_count} trials, "
            "all their points and logs, and its folder with checkpoints, encoders and results, for good. "
            "Send ?confirm=true to do it.",
        )
    return await _act(context, "delete", experiment_id, principal)


@router.get("/spec/schema")
async def spec_schema() -> dict[str, Any]:
    """JSON Schema of the spec."""
    return json_schema()


def _syntax(request: Request) -> Literal["yaml", "json"]:
    media_type = request.headers.get("content-type", "application/yaml").partition(";")[0].strip().lower()
    if media_type in ("application/json", "text/json"):
        return "json"
    # curl's --data-binary says form-urlencoded unless told otherwise; YAML is what was meant.
    if media_type in ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "",
                      "application/x-www-form-urlencoded", "application/octet-stream"):  # fmt: skip
        return "yaml"
    raise Problem(415, "Unsupported media type", f"{media_type}: send application/yaml or application/json.")
