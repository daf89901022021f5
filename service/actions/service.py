"""What users do to experiments that exist. The rules of it are tables in experiments/lifecycle.py."""

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import SpecError, plan_trials, validate_spec
from adadim_core.spec.experiment import set_paths
from service.database import notify
from service.database.tables import Experiment
from service.errors import ConflictError, FieldError, InvalidError
from service.experiments.lifecycle import ACTIONS, ActionName, IllegalTransition
from service.experiments.service import Submission, change_state, check_spec, find, invalid_spec
from service.trials import repository as trials


@dataclass(frozen=True)
class Done:
    """What an action did."""

    experiment: Experiment
    changed: bool
    """False: it was so already."""
    message: str


async def act(session: AsyncSession, name: ActionName, experiment_id: int, *, by: str) -> Done:
    """Do one of the actions of the life cycle. Idempotent.

    Raises NotFoundError, or ConflictError saying what to do instead.
    """
    experiment = await find(session, experiment_id, lock=True)
    action, state = ACTIONS[name], experiment.state
    if state in action.already:
        return Done(experiment, False, f"Experiment {experiment.id} is {state} already; nothing was done.")
    if state not in action.moves:
        raise ConflictError(f"Cannot {name} experiment {experiment.id}: {action.advice[state]}.")
    experiment.desired_state = action.desired
    if name == "retry":
        await _begin_again(session, experiment)
    try:
        await change_state(session, experiment, action.moves[state], reason=f"{action.done} by {by}", by=by)
    except IllegalTransition as error:
        raise ConflictError(f"Cannot {name} experiment {experiment.id} just now: {error}.") from None
    experiment.due_at = None if experiment.state == "paused" else func.now()
    await notify.notify(session, notify.DISPATCH)
    return Done(experiment, True, f"Experiment {experiment.id} was {state}; it is {experiment.state} now.")


async def _begin_again(session: AsyncSession, experiment: Experiment) -> None:
    """Losses so far no longer count, and trials that did not finish are to be taken up again."""
    experiment.forgiven = experiment.attempt
    experiment.ended_at = None
    await trials.take_up_again(session, experiment.id)
    experiment.trials_done = await trials.count_ended(session, experiment.id)


def cloned(source: Experiment, changes: Mapping[str, Any], max_trials: int) -> Submission:
    """An experiment's spec anew, with some fields changed: dotted paths to values. Takes a second for the largest.

    Raises InvalidError naming the field that is wrong.
    """
    if changes:
        return check_spec(_changed(source.spec, changes), max_trials)
    try:
        spec = validate_spec(source.spec)  # whatever the limit is by now
    except SpecError as error:  # an earlier version took it
        raise invalid_spec(error) from None
    return Submission(spec, source.spec_text, plan_trials(spec))


def _changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with every default filled in and some fields set."""
    fields = copy.deepcopy(dict(spec))
    for path, value in changes.items():
        try:
            set_paths(fields, {path: value})
        except (KeyError, TypeError):
            close = difflib.get_close_matches(path, _paths(fields), n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            wrong = FieldError(pointer=path, detail="no such field")
            raise InvalidError(f"The spec has no field {path}{hint}", title="Invalid change", errors=[wrong]) from None
    return fields


def _paths(fields: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted path there is."""
    found = []
    for name, value in fields.items():
        found.append(prefix + name)
        if isinstance(value, Mapping):
            found += _paths(value, f"{prefix}{name}.")
    return found
