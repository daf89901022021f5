"""FastAPI dependencies of routes on experiments: their numbers, who may change them, and with which priority."""

from typing import Annotated

from fastapi import Depends, Header, Path

from service.auth.denials import forbidden
from service.auth.dependencies import Submitter
from service.auth.service import Principal
from service.context import CurrentContext
from service.experiments import service
from service.experiments.schemas import USUAL_PRIORITY

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


def allowed_priority(priority: int, principal: Principal) -> int:
    """The priority, if this caller may give it. Raises NotAllowedError."""
    if priority > USUAL_PRIORITY and not principal.may("admin"):
        raise forbidden(
            "role", f"Priority {priority} goes before everybody else's work, which takes an admin; give 0 or less."
        )
    return priority


Owner = Annotated[Principal, Depends(owner)]
"""A token that may change the experiment of the path. Every route that changes one takes this."""
