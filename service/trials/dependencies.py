"""FastAPI dependencies of routes on a trial: the trial itself, and where its experiment's files lie."""

from typing import Annotated

from fastapi import Depends, Path

from service.auth.dependencies import Viewer
from service.context import CurrentContext
from service.database.tables import Trial
from service.errors import NotFoundError
from service.experiments import artefacts
from service.experiments import repository as experiments
from service.experiments.dependencies import MAX_ID
from service.trials import repository

TrialId = Annotated[int, Path(ge=1, le=MAX_ID)]


async def stored_trial(trial_id: TrialId, _: Viewer, context: CurrentContext) -> tuple[Trial, str]:
    """The trial (404 if there is none) and its experiment's folder in the storage."""
    async with context.database.transaction() as session:
        trial = await repository.get(session, trial_id)
        key = await experiments.installation_key(session)
    if trial is None:
        raise NotFoundError.of("trial", trial_id)
    return trial, artefacts.folder(context.settings, artefacts.name(key, trial.experiment_id))


StoredTrial = Annotated[tuple[Trial, str], Depends(stored_trial)]
"""A trial with the place of its experiment's files, for any valid token."""
