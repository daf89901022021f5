"""What routes on experiments share: their numbers, who may change them, which priority, and the check of a spec."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Request

from service.auth.denials import forbidden
from service.auth.dependencies import Submitter
from service.auth.service import Principal
from service.context import Context, CurrentContext
from service.experiments import service
from service.experiments.schemas import USUAL_PRIORITY
from service.problems import Problem

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


_T = TypeVar("_T")


async def checked(request: Request, context: Context, owner: str, check: Callable[[], _T]) -> _T:
    """What a check of a spec gives, made beside the event loop in the owner's turn, unless the client leaves before.

    Raises what the check does, and TooManyError.
    """
    answer = asyncio.ensure_future(context.spec_checks.run(owner, check))
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Problem(400, "Incomplete", "The connection ended before the spec was checked.")
        return answer.result()
    finally:
        answer.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    """Returns when the client of a request, whose body has been read, is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
