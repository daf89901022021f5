"""Submitting and reading experiments, and moving them from state to state: the decisions, without HTTP."""

import hashlib
from typing import Literal

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import ExperimentSpec, SpecError, parse_spec, plan_trials
from adadim_core.spec.search import MAX_TRIALS
from service.attempts import repository as attempts
from service.database import notify
from service.database.tables import Experiment
from service.events import repository as events
from service.experiments import repository
from service.experiments.lifecycle import Facts, check_transition
from service.problems import FieldError, Problem, not_found


def read_spec(body: bytes, syntax: Literal["yaml", "json"], max_trials: int = MAX_TRIALS) -> ExperimentSpec:
    """Parse a submitted spec. Raises a 422 problem that names the fields which are wrong."""
    try:
        spec = parse_spec(body, syntax=syntax)
    except SpecError as error:
        raise Problem(
            422,
            "Invalid spec",
            str(error)[:1000],
            errors=[FieldError(pointer=p.pointer, detail=p.message) for p in error.problems],
        ) from None
    count = len(plan_trials(spec.search))
    if count > max_trials:
        too_many = FieldError(pointer="/search", detail=f"{count} trials; this service takes at most {max_trials}")
        raise Problem(422, "Invalid spec", f"/search: {too_many.detail}", errors=[too_many])
    return spec


async def submit(
    session: AsyncSession,
    spec: ExperimentSpec,
    *,
    text: str,
    owner: str,
    idempotency_key: str | None,
    priority: int = 0,
    reason: str | None = None,
) -> Experiment:
    """Store a spec as a queued experiment; with a key seen before, give that experiment again.

    Raises a 409 problem if the key was used for another body or priority.
    """
    body_hash = hashlib.sha256((f"{priority}\n{text}" if priority else text).encode()).digest()
    if idempotency_key is not None:
        earlier = await repository.claim_key(session, owner, idempotency_key)
        if earlier is not None:
            if earlier.body_hash != body_hash:
                raise Problem(409, "Conflict", "This Idempotency-Key was used for a different spec; use a new key.")
            return await find(session, earlier.experiment_id)
    trials = plan_trials(spec.search)
    experiment = await repository.add(
        session,
        Experiment(
            name=spec.name,
            owner=owner,
            spec=spec.model_dump(mode="json"),
            spec_text=text,
            priority=priority,
            metric=spec.search.metric if spec.search else "knn_top1",
            mode=spec.search.mode if spec.search else "max",
            trial_count=len(trials),
        ),
        trials,
    )
    if idempotency_key is not None:
        await repository.keep_key(session, owner, idempotency_key, body_hash, experiment.id)
    await repository.add_transition(session, experiment, None, by=owner, reason=reason)
    await events.append(session, experiment.id, "experiment", {"state": "queued"})
    await notify.notify(session, notify.DISPATCH)
    return experiment


async def find(session: AsyncSession, experiment_id: int, *, lock: bool = False) -> Experiment:
    """The experiment, or a 404 problem."""
    experiment = await repository.get(session, experiment_id, lock=lock)
    if experiment is None:
        raise not_found("experiment", experiment_id)
    return experiment


async def change_state(
    session: AsyncSession, experiment: Experiment, state: str, *, reason: str | None = None, by: str
) -> None:
    """Move a locked experiment to another state and write down who did it and why.

    Raises IllegalTransition if the table of the life cycle does not allow it; nothing is changed then.
    """
    attempt_open = await attempts.any_open(session, experiment.id)
    check_transition(experiment.state, state, Facts(experiment.desired_state, attempt_open))
    source, experiment.state = experiment.state, state
    experiment.state_reason = reason
    if state == "queued":
        experiment.queued_at = func.now()
    await session.flush()
    await repository.add_transition(session, experiment, source, by=by, reason=reason)
    await events.append(session, experiment.id, "experiment", {"state": state})
