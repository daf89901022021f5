"""HTTP: what users do to experiments that exist."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from service.actions import service
from service.auth.dependencies import Submitter
from service.auth.service import Principal
from service.context import Context, CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId, IdempotencyKey, Owner, allowed_priority, checked
from service.experiments.lifecycle import ActionName
from service.experiments.schemas import (
    USUAL_PRIORITY,
    ActionRead,
    CloneRequest,
    ExperimentDetail,
    ExperimentRead,
    ExtendRequest,
)
from service.problems import PROBLEM_RESPONSES, Problem

router = APIRouter(prefix="/api/v1", tags=["experiments"], responses=PROBLEM_RESPONSES)


async def _act(context: Context, name: ActionName, experiment_id: int, principal: Principal) -> ActionRead:
    async with context.database.transaction() as session:
        done = await service.act(session, name, experiment_id, by=principal.name)
        return await _shown(session, done)


async def _shown(session: AsyncSession, done: service.ActionResult) -> ActionRead:
    await session.refresh(done.experiment)
    shown = ExperimentRead.model_validate(done.experiment)
    return ActionRead(**shown.model_dump(), changed=done.changed, message=done.message)


@router.post("/experiments/{experiment_id}/cancel")
async def cancel_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """End an experiment. What it has reported stays; `retry` resumes from its checkpoints."""
    return await _act(context, "cancel", experiment_id, principal)


@router.post("/experiments/{experiment_id}/pause")
async def pause_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Free the cluster: the job ends, its trials keep their checkpoints until `resume`."""
    return await _act(context, "pause", experiment_id, principal)


@router.post("/experiments/{experiment_id}/resume")
async def resume_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Queue a paused experiment again; it resumes from its checkpoints."""
    return await _act(context, "resume", experiment_id, principal)


@router.post("/experiments/{experiment_id}/retry")
async def retry_experiment(experiment_id: ExperimentId, principal: Owner, context: CurrentContext) -> ActionRead:
    """Queue a failed or cancelled experiment again: trials that did not finish resume from their checkpoints."""
    return await _act(context, "retry", experiment_id, principal)


@router.post("/experiments/{experiment_id}/extend")
async def extend_experiment(
    experiment_id: ExperimentId, extension: ExtendRequest, request: Request, principal: Owner, context: CurrentContext
) -> ActionRead:
    """Queue an ended sweep again with more seeds or more configurations: only the trials it lacks run."""
    async with context.database.transaction() as session:
        source = await experiments.find(session, experiment_id)
    check = partial(service.extended, source, extension.seeds, extension.trials, context.settings.max_trials)
    more = await checked(request, context, principal.name, check)
    async with context.database.transaction() as session:
        done = await service.extend(session, experiment_id, source.spec, more, by=principal.name)
        return await _shown(session, done)


@router.post("/experiments/{experiment_id}/clone", status_code=201)
async def clone_experiment(
    experiment_id: ExperimentId,
    clone: CloneRequest,
    request: Request,
    response: Response,
    principal: Submitter,
    context: CurrentContext,
    *,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentDetail:
    """Submit an experiment's spec as a new one, with some fields changed if you like."""
    if clone.priority is not None:
        allowed_priority(clone.priority, principal)
    async with context.database.transaction() as session:
        source = await experiments.find(session, experiment_id)
    usual = source.priority if principal.may("admin") else min(source.priority, USUAL_PRIORITY)
    check = partial(service.cloned, source, clone.changes, context.settings.max_trials)
    submission = await checked(request, context, principal.name, check)
    experiment = await experiments.submit(
        context.database,
        submission,
        owner=principal.name,
        idempotency_key=idempotency_key,
        priority=usual if clone.priority is None else clone.priority,
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
            experiment = await experiments.find(session, experiment_id)
        raise Problem(
            409,
            "Confirmation needed",
            f"Deleting experiment {experiment_id} ({experiment.name}) removes its {experiment.trial_count} trials, "
            "all their points and logs, and its folder with checkpoints, encoders and results, for good. "
            "Send ?confirm=true to do it.",
        )
    return await _act(context, "delete", experiment_id, principal)
