"""HTTP: the start of an import; `python -m workers import` uses it."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from adadim_core.spec import MAX_SPEC_BYTES
from service.auth.dependencies import Submitter
from service.context import CurrentContext
from service.experiments.dependencies import checked
from service.experiments.service import read_spec
from service.imports.service import check_room, open_import
from service.problems import PROBLEM_RESPONSES
from service.schema import Schema

router = APIRouter(prefix="/api/v1", tags=["experiments"], responses=PROBLEM_RESPONSES)


class ImportRequest(Schema):
    """A run made without the service."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="The run's own identifier, from its storage.")]
    spec: Annotated[str, Field(max_length=MAX_SPEC_BYTES, description="Its spec as JSON text.")]


class ImportRead(Schema):
    """Where its results go."""

    experiment_id: int
    attempt_id: int | None
    """Reports go to /attempts/{attempt_id}/reports; null: the results are here already."""
    token: str | None
    """The token of that attempt, for these reports only."""


@router.post("/experiments/import", max_body_size=3 * MAX_SPEC_BYTES)
async def import_experiment(
    body: ImportRequest, request: Request, principal: Submitter, context: CurrentContext
) -> ImportRead:
    """Begin to import a run's results. The same run gives the same experiment, however often it is imported."""
    async with context.database.transaction() as session:
        await check_room(session, body.id, principal.name)
    check = partial(read_spec, body.spec.encode(), "json", context.settings.max_trials)
    submission = await checked(request, context, principal.name, check)
    async with context.database.transaction() as session:
        opened = await open_import(session, submission, run_id=body.id, owner=principal.name)
        return ImportRead(experiment_id=opened.experiment.id, attempt_id=opened.attempt_id, token=opened.token)
