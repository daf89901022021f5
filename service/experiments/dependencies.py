"""FastAPI dependencies of routes on one experiment: its number, and who may change it."""

from typing import Annotated

from fastapi import Depends, Header, Path

from service.auth.denials import forbidden
from service.auth.dependencies import Submitter
from service.auth.service import Principal
from service.context import CurrentContext
from service.experiments import service

MAX_ID = 2**63 - 1
ExperimentId = Annotated[int, Path(ge=1, le=MAX_ID)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


async def owner(experiment_id: ExperimentId, principal: Submitter, context: CurrentContext) -> Principal:
    """Whoever may change the experiment of the path: its owner, or an admin. 404 before 403: anyone may read it."""
    async with context.database.transaction() as session:
        experiment = await service.find(session, experiment_id)
    if not principal.may_change(experiment.owner):
        raise forbidden(
            "owner", f"Experiment {experiment_id} belongs to {experiment.owner}; only they or an admin may change it."
        )
    return principal


Owner = Annotated[Principal, Depends(owner)]
"""A token that may change the experiment of the path. Every route that changes one takes this."""
