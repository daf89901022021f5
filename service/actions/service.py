"""What users do to experiments that exist. The rules of it are tables in experiments/lifecycle.py."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import SpecError, extension, plan_summary, validate_spec
from adadim_core.spec.experiment import dotted_paths, kind_section, set_paths
from adadim_core.spec.problems import did_you_mean_path, spelt
from adadim_core.spec.seeds import SEED_PATH
from service.database import notify
from service.database.tables import Experiment
from service.errors import ConflictError, FieldError, InvalidError
from service.events import repository as events
from service.experiments import repository
from service.experiments.lifecycle import ACTIONS, ActionName, IllegalTransition
from service.experiments.service import Submission, change_state, check_spec, find, invalid_spec, planned
from service.trials import repository as trials


@dataclass(frozen=True)
class ActionResult:
    """What an action did."""

    experiment: Experiment
    changed: bool
    """False: it was so already."""
    message: str


async def act(session: AsyncSession, name: ActionName, experiment_id: int, *, by: str) -> ActionResult:
    """Do one of the actions of the life cycle. Idempotent.

    Raises NotFoundError, or ConflictError saying what to do instead.
    """
    experiment = await find(session, experiment_id, lock=True)
    action, state = ACTIONS[name], experiment.state
    if state in action.already:
        return ActionResult(experiment, False, f"Experiment {experiment.id} is {state} already; nothing was done.")
    if name == "retry" and state in action.moves:
        await _begin_again(session, experiment)
    return await _move(session, experiment, name, f"{action.done} by {by}", by)


async def extend(
    session: AsyncSession, experiment_id: int, before: Mapping[str, Any], more: Submission, *, by: str
) -> ActionResult:
    """Queue an ended sweep again with the trials that `more` plans beyond those of the spec `before`. Idempotent.

    Trials that finished are left as they are, and all keep their numbers.

    Raises NotFoundError, or ConflictError saying what to do instead.
    """
    experiment, spec = await find(session, experiment_id, lock=True), more.spec.model_dump(mode="json")
    nothing_missing = experiment.spec == before and experiment.trial_count == len(more.trials)  # [3] is what 1 was
    if experiment.spec == spec or nothing_missing:
        return ActionResult(
            experiment, False, f"Experiment {experiment.id} has {plan_summary(more.spec)}; nothing was done."
        )
    if experiment.spec != before:
        raise ConflictError(f"Experiment {experiment.id} was extended just now; look at it and ask again.")
    if experiment.state in ACTIONS["extend"].moves:
        await _add_trials(session, experiment, more)
        await _begin_again(session, experiment)
    return await _move(session, experiment, "extend", f"extended by {by} to {plan_summary(more.spec)}", by)


async def _add_trials(session: AsyncSession, experiment: Experiment, more: Submission) -> None:
    """Store a grown spec and the trials it adds."""
    known = {row.number for row in await trials.outline(session, experiment.id)}
    added = [plan for plan in more.trials if plan.number not in known]
    await repository.add_trials(session, experiment.id, added)
    for plan in added:
        await events.append(session, experiment.id, "trial", {"number": plan.number, "state": "pending"})
    seed = more.trials[0].params.get(SEED_PATH)
    if seed is not None:  # the trials of a sweep of one seed do not say it
        await trials.complete_params(session, experiment.id, {SEED_PATH: seed})
    experiment.spec, experiment.spec_text, experiment.trial_count = (
        more.spec.model_dump(mode="json"),
        more.text,
        len(more.trials),
    )


async def _move(session: AsyncSession, experiment: Experiment, name: ActionName, reason: str, by: str) -> ActionResult:
    """Bring a locked experiment to the state an action leads to."""
    action, state = ACTIONS[name], experiment.state
    if state not in action.moves:
        raise ConflictError(f"Cannot {name} experiment {experiment.id}: {action.advice[state]}.")
    experiment.desired_state = action.desired
    try:
        await change_state(session, experiment, action.moves[state], reason=reason, by=by)
    except IllegalTransition as error:
        raise ConflictError(f"Cannot {name} experiment {experiment.id} just now: {error}.") from None
    experiment.due_at = None if experiment.state == "paused" else func.now()
    await notify.notify(session, notify.DISPATCH)
    return ActionResult(experiment, True, f"Experiment {experiment.id} was {state}; it is {experiment.state} now.")


async def _begin_again(session: AsyncSession, experiment: Experiment) -> None:
    """Losses so far no longer count, and trials that did not finish are to be taken up again."""
    experiment.forgiven = experiment.attempt
    experiment.ended_at = None
    await trials.take_up_again(session, experiment.id)
    experiment.trials_done = await trials.count_ended(session, experiment.id)
    best = await trials.best(session, experiment.id, experiment.metric, experiment.mode)
    experiment.best_trial, experiment.best_value = best or (None, None)  # one that failed counts again


def cloned(source: Experiment, changes: Mapping[str, Any], max_trials: int) -> Submission:
    """An experiment's spec as a new submission, with some fields changed: dotted paths to values.

    Takes a second for the largest.

    Raises InvalidError naming the field that is wrong.
    """
    if changes:
        try:
            return check_spec(_changed(source.spec, changes), max_trials)
        except InvalidError:
            _advise_whole_sections(changes)
            raise
    try:
        spec = validate_spec(source.spec)
    except SpecError as error:  # an earlier version took it
        raise invalid_spec(error) from None
    return planned(spec, source.spec_text, max_trials)


def extended(
    source: Experiment, seeds: int | list[int] | None, configurations: int | None, max_trials: int
) -> Submission:
    """A sweep's spec with more seeds or configurations. Takes a second for the largest.

    Raises InvalidError saying why it cannot be extended so.
    """
    try:
        before = validate_spec(source.spec)
        document = extension.extended(before, seeds=seeds, trials=configurations)
    except SpecError as error:  # an earlier version took it
        raise invalid_spec(error) from None
    except ValueError as error:
        raise InvalidError(f"Experiment {source.id} cannot be extended: {error}.", title="Invalid extension") from None
    more = check_spec(document, max_trials)
    if not extension.continues(before, more.spec):
        raise InvalidError(
            f"Experiment {source.id} has {plan_summary(before)}; with {plan_summary(more.spec)} its trials would not "
            "keep their numbers. Give at least the seeds and configurations it has; where it has several seeds, no "
            "more configurations.",
            title="Invalid extension",
        )
    return more


def _changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with every default filled in and some fields set."""
    fields = copy.deepcopy(dict(spec))
    for path, value in changes.items():
        try:
            set_paths(fields, {path: value})
        except (KeyError, TypeError):
            hint = did_you_mean_path(path, dotted_paths(fields))
            wrong = FieldError(pointer=path, detail=f"no such field{hint}")
            raise InvalidError(f"The spec has no field {path}{hint}", title="Invalid change", errors=[wrong]) from None
    return fields


def _advise_whole_sections(changes: Mapping[str, Any]) -> None:
    """Raises InvalidError with a better word where a change that was refused chooses the kind of a section only."""
    for path, value in changes.items():
        section = kind_section(path)
        if section is not None:
            whole = f"{section}={spelt({path.rpartition('.')[2]: value})}"
            wrong = FieldError(pointer=path, detail=f"each kind has fields of its own; set the whole section: {whole}")
            raise InvalidError(f"{path}: {wrong.detail}", title="Invalid change", errors=[wrong])
