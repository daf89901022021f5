"""Makes the answer of an experiment from its stored trials, whether they have ended or not.

Owns nothing of the analysis: adadim_core/answers does.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer, Importance
from adadim_core.answers.importance import importance
from adadim_core.spec import ExperimentSpec
from service.answers import repository
from service.experiments import service as experiments
from service.shares import Shares

_UNDER_WAY = Shares("answers", 1, each=1, line=32)
"""One of a thousand trials takes a tenth of a second: however many pages follow a
sweep, their answers take one processor at most."""


async def read(session: AsyncSession, experiment_id: int) -> tuple[Mapping[str, Any], Sequence[Row[Any]]]:
    """The stored spec and trials of an experiment. Raises NotFoundError."""
    experiment = await experiments.find(session, experiment_id)
    return experiment.spec, await repository.trials(session, experiment_id)


async def analyse(spec: Mapping[str, Any], trials: Sequence[Row[Any]], *, asked_by: str) -> Answer:
    """The answer, off the event loop, in the caller's turn. Takes no session: none is held meanwhile."""
    async with _UNDER_WAY.place(asked_by):
        return await asyncio.to_thread(lambda: answer(question(spec), map(trial_row, trials)))


async def weigh(spec: Mapping[str, Any], trials: Sequence[Row[Any]], *, asked_by: str) -> Importance:
    """The importance of the swept fields, as `analyse`."""
    async with _UNDER_WAY.place(asked_by):
        return await asyncio.to_thread(lambda: importance(question(spec), map(trial_row, trials)))


def question(spec: Mapping[str, Any]) -> Question:
    """What a stored spec asks, also one that this version does not take any more."""
    try:
        return Question.of(ExperimentSpec.model_validate(spec))
    except ValidationError:
        return Question.of_stored(spec)


def trial_row(trial: Row[Any]) -> TrialRow:
    """A stored trial as the analysis takes it."""
    metrics = {name: float(entry["value"]) for name, entry in trial.latest.items()}
    return TrialRow(trial.number, trial.params, trial.state, trial.epoch, trial.epochs, metrics)
