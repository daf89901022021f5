"""Workers' reports past the router: the framework's way to a route costs more than a small report does.

Owns the short cut only: the route is declared in endpoints.py, and the same functions answer it.
"""

import re
from dataclasses import dataclass

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from service.attempts.dependencies import authenticated_attempt, get_reporting
from service.attempts.endpoints import receive_report
from service.context import get_context
from service.database.engine import DATABASE_ERRORS
from service.errors import ServiceError
from service.experiments.dependencies import MAX_ID
from service.http_limits import refuse_encoding
from service.problems import Problem, answer

_PATH = re.compile(r"/api/v1/attempts/([1-9][0-9]{0,18})/reports")


@dataclass(frozen=True)
class _Route:
    """What counts and records of requests ask of a route."""

    path: str


_ROUTE = _Route("/api/v1/attempts/{attempt_id}/reports")


class DirectReports:
    """ASGI middleware: answers reports itself, and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None or int(found[1]) > MAX_ID:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = _ROUTE, {"attempt_id": found[1]}
        request = Request(scope, receive)
        try:
            refuse_encoding(scope)
            context, reporting = await get_context(request), await get_reporting(request)
            attempt_id = await authenticated_attempt(int(found[1]), request, context, reporting)
            response = await receive_report(attempt_id, request, context, reporting)
        except (Problem, ServiceError, RequestValidationError, *DATABASE_ERRORS) as error:
            response = await answer(request, error)
        await response(scope, receive, send)
