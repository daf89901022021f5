"""Submitting and reading experiments, and moving them from state to state: the decisions, without HTTP."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import (
    ExperimentSpec,
    SpecError,
    TrialPlan,
    parse_spec,
    plan_trials,
    unintended,
    validate_spec,
)
from service.context import Context
from service.database.engine import Database
from service.database.tables import Experiment
from service.errors import ConflictError, FieldError, InvalidError, NotFoundError
from service.events import repository as events
from service.experiments import listing, repository
from service.experiments.lifecycle import Facts, check_transition
from service.experiments.schemas import ExperimentRead
from service.queue import service as queue


@dataclass(frozen=True)
class Submission:
    """A spec that was checked, with the trials it plans."""

    spec: ExperimentSpec
    text: str
    """As it was submitted."""
    trials: Sequence[TrialPlan]


def read_spec(body: bytes, syntax: Literal["yaml", "json"], max_trials: int) -> Submission:
    """Parse and plan a submitted spec. Raises InvalidError naming the fields that are wrong."""
    try:
        spec = parse_spec(body, syntax=syntax)
    except SpecError as error:
        raise invalid_spec(error) from None
    return _intended(spec, body.decode(), max_trials)


def check_spec(document: Mapping[str, Any], max_trials: int) -> Submission:
    """As `read_spec`, for a spec made here: with its defaults it may exceed the size limit of submissions."""
    try:
        spec = validate_spec(document)
    except SpecError as error:
        raise invalid_spec(error) from None
    return _intended(spec, json.dumps(document), max_trials)


def invalid_spec(error: SpecError) -> InvalidError:
    errors = [FieldError(pointer=p.pointer, detail=p.message) for p in error.problems]
    return InvalidError(str(error)[:1000], title="Invalid spec", errors=errors)


def _intended(spec: ExperimentSpec, text: str, max_trials: int) -> Submission:
    if useless := unintended(spec):
        raise invalid_spec(SpecError(useless))
    return planned(spec, text, max_trials)


def planned(spec: ExperimentSpec, text: str, max_trials: int) -> Submission:
    """A valid spec with the trials it plans. Raises InvalidError if they are more than this service takes."""
    trials = plan_trials(spec)
    if len(trials) > max_trials:
        detail = f"{len(trials)} trials; this service takes at most {max_trials}"
        wrong = FieldError(pointer="/search", detail=detail)
        raise InvalidError(f"/search: {detail}", title="Invalid spec", errors=[wrong])
    return Submission(spec, text, trials)


async def submit(
    database: Database,
    submission: Submission,
    *,
    owner: str,
    idempotency_key: str | None,
    priority: int = 0,
    reason: str | None = None,
) -> Experiment:
    """Store a spec as a queued experiment; with a key seen before, give that experiment again.

    Raises ConflictError if the key was used for another body or priority.
    """
    new = new_experiment(submission, owner, priority, reason)
    if idempotency_key is None:
        async with database.autocommit() as connection:
            return await repository.add(connection, new)
    async with database.transaction() as session:
        return await submit_once(session, new, key=idempotency_key)


async def submit_once(session: AsyncSession, new: repository.NewExperiment, *, key: str) -> Experiment:
    """Store an experiment unless its owner has used this key before. Raises ConflictError as `submit`."""
    owner, text = new.owner, f"{new.priority}\n{new.spec_text}" if new.priority else new.spec_text
    body_hash = hashlib.sha256(text.encode()).digest()
    earlier = await repository.claim_key(session, owner, key)
    if earlier is not None:
        if earlier.body_hash != body_hash:
            raise ConflictError("This Idempotency-Key was used for a different spec; use a new key.")
        return await find(session, earlier.experiment_id)
    added = await repository.add(await session.connection(), new)
    await repository.keep_key(session, owner, key, body_hash, added.id)
    return await find(session, added.id)


def new_experiment(
    submission: Submission, owner: str, priority: int = 0, reason: str | None = None
) -> repository.NewExperiment:
    """What is stored of a submission."""
    spec = submission.spec
    return repository.NewExperiment(
        name=spec.name,
        owner=owner,
        spec=spec.model_dump(mode="json"),
        spec_text=submission.text,
        priority=priority,
        metric=spec.search.metric if spec.search else "knn_top1",
        mode=spec.search.mode if spec.search else "max",
        trials=submission.trials,
        reason=reason,
    )


async def find(session: AsyncSession, experiment_id: int, *, lock: bool = False) -> Experiment:
    """The experiment. Raises NotFoundError."""
    experiment = await repository.get(session, experiment_id, lock=lock)
    if experiment is None:
        raise NotFoundError.of("experiment", experiment_id)
    return experiment


async def add_states(session: AsyncSession, context: Context, items: Sequence[ExperimentRead]) -> None:
    """Add what only a look at trials and queue tells: how many trials are in which state, and what is waited for."""
    counts = await listing.trial_states(session, [item.id for item in items])
    for item in items:
        item.trial_states = counts[item.id]
    waiting = await queue.waiting(session, context, [item for item in items if item.state == "queued"])
    idle = [item.id for item in items if item.state == "running" and not counts[item.id].get("running")]
    waiting |= await queue.waiting_for_room(session, idle)
    for item in items:
        item.waiting = waiting.get(item.id)


async def change_state(
    session: AsyncSession, experiment: Experiment, state: str, *, reason: str | None = None, by: str
) -> None:
    """Move a locked experiment to another state and write down who did it and why.

    Raises IllegalTransition if the table of the life cycle does not allow it; nothing is changed then.
    """
    attempt_open = await repository.attempt_open(session, experiment.id)
    check_transition(experiment.state, state, Facts(experiment.desired_state, attempt_open))
    source, experiment.state = experiment.state, state
    experiment.state_reason = reason
    if state == "queued":
        experiment.queued_at = func.now()
    await session.flush()
    await repository.add_transition(session, experiment, source, by=by, reason=reason)
    await events.append(session, experiment.id, "experiment", {"state": state})
