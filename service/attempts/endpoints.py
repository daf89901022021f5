"""HTTP: the workers' reports, and how a job's driver comes by the right to send them. Its token opens nothing else."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import func
from starlette.requests import ClientDisconnect

from adadim_core.spec import report_binary
from adadim_core.spec.report import Report
from service.attempts import repository, service
from service.attempts.body import UnsupportedTypeError, is_binary
from service.attempts.dependencies import AuthenticatedAttempt, CurrentReporting, JobOfAttempt
from service.attempts.room import Place
from service.auth.dependencies import bearer_token
from service.context import CurrentContext
from service.errors import ServiceError
from service.problems import PROBLEM_RESPONSES, Problem
from service.schema import Schema

router = APIRouter(prefix="/api/v1/attempts", tags=["workers"], responses=PROBLEM_RESPONSES)

MAX_REPORT_BYTES = 8 * 1024 * 1024
MAX_JSON_REPORT_BYTES = 2 * 1024 * 1024
_BODY_S = 60.0
"""A body must have arrived within this: room is kept for it."""


class TakeOver(Schema):
    """A token that a job's driver made, by its digest: the token itself arrives with the first report."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    proof: Annotated[
        str | None,
        Field(pattern=r"^[0-9a-f]{64}$", description="That the cluster's token is known: spec/attempt_proof.py."),
    ] = None


@router.put("/{attempt_id}/token", status_code=204)
async def take_over(attempt_id: JobOfAttempt, wanted: TakeOver, request: Request, context: CurrentContext) -> None:
    """Bind the attempt to the driver's own token. Its first request, with the code that the job was started with."""
    claim = service.Claim(attempt_id, bearer_token(request) or "", wanted.sha256, wanted.proof)
    key = context.settings.job_key or context.jobs.token
    async with context.database.transaction(of_report=True) as session:
        refused = await service.take_over(session, claim, key)
    if refused is not None:
        raise refused


def _self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema with its definitions put where they are referred to, as OpenAPI wants it inside a route."""
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in node.items()}

    resolved: dict[str, Any] = resolve(schema)
    return resolved


_REPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _self_contained(Report.model_json_schema())},
            report_binary.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/{attempt_id}/reports", max_body_size=MAX_REPORT_BYTES, openapi_extra=_REPORT_BODY)
async def receive_report(
    attempt_id: AuthenticatedAttempt, request: Request, context: CurrentContext, reporting: CurrentReporting
) -> Response:
    """Points, trial states, heartbeat and outcome of one attempt. Answered once they are committed."""
    kind = request.headers.get("content-type", "")
    known = reporting.tokens[attempt_id]
    with reporting.inbox.room.place(attempt_id, known.owner) as place:
        try:
            async with asyncio.timeout(_BODY_S):
                body = await _read(request, place, MAX_REPORT_BYTES if is_binary(kind) else MAX_JSON_REPORT_BYTES)
        except TimeoutError:
            raise Problem(408, "Too slow", f"The body did not arrive within {_BODY_S:g} s.") from None
        try:
            delivery = await reporting.parse(body, kind)
        except UnsupportedTypeError:
            detail = f"Send application/json or {report_binary.MEDIA_TYPE}."
            raise Problem(415, "Unsupported media type", detail) from None
        try:
            reply = await reporting.inbox.deliver(attempt_id, replace(delivery, token_hash=known.token_hash))
        except ServiceError as error:
            reporting.tokens.pop(attempt_id, None)  # the attempt may be over, or its token another's
            if isinstance(error, service.SupersededError):
                async with context.database.transaction(of_report=True) as session:
                    await repository.change(session, attempt_id, refused_at=func.now())
            raise
    return Response(reply.model_dump_json(), media_type="application/json")


async def _read(request: Request, place: Place, limit: int) -> bytes:
    """The body, with room taken for what has arrived. Raises Problem: 413 over the limit, 400 where it breaks off."""
    pieces: list[bytes] = []
    if int(request.headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    try:
        async for piece in request.stream():
            place.grow(len(piece))
            if place.size > limit:
                raise _too_large(limit)
            pieces.append(piece)
    except ClientDisconnect:
        raise Problem(400, "Incomplete", "The connection ended before the body did.") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit: int) -> Problem:
    other = "" if limit == MAX_REPORT_BYTES else f" as JSON; {report_binary.MEDIA_TYPE} takes {MAX_REPORT_BYTES}"
    return Problem(413, "Body too large", f"A report may have at most {limit} bytes{other}.")
