"""HTTP: the workers' reports. The only route a worker needs, and the only one its token opens."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from sqlalchemy import func

from adadim_core.spec import report_binary
from adadim_core.spec.report import Report
from service.attempts import repository, service
from service.attempts.body import UnsupportedTypeError, parse
from service.attempts.dependencies import (
    AuthenticatedAttempt,
    CurrentReporting,
    authenticated_attempt,
    get_reporting,
)
from service.auth.dependencies import bearer_token
from service.context import CurrentContext, get_context
from service.errors import ServiceError
from service.experiments.dependencies import MAX_ID
from service.problems import PROBLEM_RESPONSES, Problem
from service.secret import hash_token

router = APIRouter(prefix="/api/v1/attempts", tags=["workers"], responses=PROBLEM_RESPONSES)

MAX_REPORT_BYTES = 8 * 1024 * 1024
_LARGE = 64 * 1024
"""Bytes of a report that take long enough to read to leave the event loop for it."""
_BODY_S = 60.0
"""A body must have arrived within this: room is kept for it."""


class TokenExchange(BaseModel):
    """A token the worker made, by its hash: the token itself arrives with the first report."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@router.put("/{attempt_id}/token", status_code=204)
async def exchange_token(
    attempt_id: AuthenticatedAttempt,
    exchange: TokenExchange,
    request: Request,
    context: CurrentContext,
    reporting: CurrentReporting,
) -> None:
    """Void the token the job was started with for the worker's own. A worker's first request."""
    async with context.database.transaction() as session:
        await service.replace_token(session, attempt_id, bearer_token(request), bytes.fromhex(exchange.sha256))
    reporting.tokens.pop(attempt_id, None)


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


async def receive_report(
    attempt_id: AuthenticatedAttempt, request: Request, context: CurrentContext, reporting: CurrentReporting
) -> Response:
    """Points, trial states, heartbeat and outcome of one attempt. Answered once they are committed."""
    with reporting.inbox.room(int(request.headers.get("content-length", MAX_REPORT_BYTES))):
        try:
            async with asyncio.timeout(_BODY_S):
                body = await request.body()
        except TimeoutError:
            raise Problem(408, "Too slow", f"The body did not arrive within {_BODY_S:g} s.") from None
        kind = request.headers.get("content-type", "")
        try:
            delivery = parse(body, kind) if len(body) < _LARGE else await asyncio.to_thread(parse, body, kind)
        except UnsupportedTypeError:
            detail = f"Send application/json or {report_binary.MEDIA_TYPE}."
            raise Problem(415, "Unsupported media type", detail) from None
        token = bearer_token(request) or ""
        try:
            reply = await reporting.inbox.deliver(attempt_id, replace(delivery, token_hash=hash_token(token)))
        except ServiceError as error:
            reporting.tokens.pop(attempt_id, None)  # the attempt may be over, or its token another's
            if isinstance(error, service.SupersededError):
                async with context.database.transaction() as session:
                    await repository.change(session, attempt_id, refused_at=func.now())
            raise
    return Response(reply.model_dump_json(), media_type="application/json")


class _PlainRoute(APIRoute):
    """Declared as any other, but called with what it takes: solving dependencies costs more than a small report."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        declared = super().get_route_handler()

        async def handle(request: Request) -> Response:
            number = request.path_params["attempt_id"]
            if not (number.isascii() and number.isdecimal() and len(number) < len(str(MAX_ID))):
                return await declared(request)  # which says what is wrong
            context, reporting = await get_context(request), await get_reporting(request)
            known = await authenticated_attempt(int(number), request, context, reporting)
            return await receive_report(known, request, context, reporting)

        return handle


router.add_api_route(
    "/{attempt_id}/reports",
    receive_report,
    methods=["POST"],
    max_body_size=MAX_REPORT_BYTES,
    openapi_extra=_REPORT_BODY,
    route_class_override=_PlainRoute,
)
