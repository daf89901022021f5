"""Submitting, reading and cancelling experiments: the decisions, without HTTP."""

import hashlib
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import ExperimentSpec, SpecError, parse_spec, plan_trials
from adadim_core.spec.search import MAX_TRIALS
from service.database import notify
from service.database.tables import Experiment
from service.events import repository as events
from service.experiments import repository
from service.experiments.states import EXPERIMENT_ENDED
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
    session: AsyncSession, spec: ExperimentSpec, *, text: str, owner: str, idempotency_key: str | None
) -> Experiment:
    """Store a spec as a queued experiment; with a key seen before, give that experiment again.

    Raises a 409 problem if the key was used for another body.
    """
    body_hash = hashlib.sha256(text.encode()).digest()
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
            metric=spec.search.metric if spec.search else "knn_top1",
            mode=spec.search.mode if spec.search else "max",
            trial_count=len(trials),
        ),
        trials,
    )
    if idempotency_key is not None:
        await repository.keep_key(session, owner, idempotency_key, body_hash, experiment.id)
    await events.append(session, experiment.id, "experiment", {"state": "queued", "by": owner})
    await notify.notify(session, notify.DISPATCH)
    return experiment


async def find(session: AsyncSession, experiment_id: int, *, lock: bool = False) -> Experiment:
    """The experiment, or a 404 problem."""
    experiment = await repository.get(session, experiment_id, lock=lock)
    if experiment is None:
        raise not_found("experiment", experiment_id)
    return experiment


async def cancel(session: AsyncSession, experiment_id: int, *, by: str) -> Experiment:
    """Ask for an experiment to end. Idempotent; an experiment that ended stays as it is."""
    experiment = await find(session, experiment_id, lock=True)
    if experiment.state in EXPERIMENT_ENDED or experiment.desired_state == "cancel":
        return experiment
    experiment.desired_state = "cancel"
    await change_state(session, experiment, "cancelling", reason=f"cancelled by {by}", by=by)
    await repository.make_due(session, experiment.id)
    await notify.notify(session, notify.DISPATCH)
    return experiment


async def change_state(
    session: AsyncSession, experiment: Experiment, state: str, *, reason: str | None = None, by: str
) -> None:
    """Move a locked experiment to another state and write down that it happened."""
    changed: dict[str, Any] = {"state": state, "from": experiment.state, "reason": reason, "by": by}
    experiment.state = state
    experiment.state_reason = reason
    await session.flush()
    await events.append(session, experiment.id, "experiment", changed)
