"""Request ids and one log record a request, as ASGI middleware.

The id of a caller (X-Request-ID) is taken over if it is a plain word, so that one id follows a request through
proxies; every answer says it. Counting and timing are telemetry/http_metrics.py's.
"""

import itertools
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import tracing
from service.telemetry.records import bound

if TYPE_CHECKING:
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
USER = "adadim.user"
"""Where a request's scope says whose token it came with, and the token's number."""
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET = ("/healthz", "/readyz", "/metrics", "/static", "/api/v1/attempts/{attempt_id}/reports")
"""Routes asked many times a minute: only what goes wrong there is worth a record."""

_PROCESS, _NUMBERS = uuid4().hex[:20], itertools.count(1)
"""Ids are this process's own with a number: random ones would ask the system for every request."""

OnBug = Callable[[Request, Exception], Awaitable[Response]]


class RequestRecords:
    """ASGI middleware: binds the ids of a request to the records made while it is answered.

    Args:
        on_bug: answers what no handler expected. Here, because the framework would answer outside of all middleware,
            and that answer would have no id and be counted nowhere.
    """

    def __init__(self, app: ASGIApp, on_bug: OnBug) -> None:
        self._app = app
        self._on_bug = on_bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get(HEADER, "")
        request_id = offered if offered and _ACCEPTED.fullmatch(offered) else f"{_PROCESS}{next(_NUMBERS):012x}"
        started, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with (
            tracing.server_span(scope["method"], headers) as span,
            bound(
                request_id=request_id,
                # Known once the router has found the route: asked when a record is made.
                experiment_id=lambda: _path_parameter(scope, "experiment_id"),
                attempt_id=lambda: _path_parameter(scope, "attempt_id"),
                # Known once the token has been recognised.
                user=lambda: scope.get(USER, (None, None))[0],
                token_id=lambda: scope.get(USER, (None, None))[1],
            ),
        ):
            try:
                await self._app(scope, receive, observed)
            except Exception as error:
                if status:  # too late for another answer: the server breaks the connection off
                    raise
                await (await self._on_bug(Request(scope), error))(scope, receive, observed)
            finally:
                _record(scope, status, time.perf_counter() - started)
                if span is not None:
                    _describe(span, scope, status, request_id)


def _describe(span: "Span", scope: Scope, status: int, request_id: str) -> None:
    """The name and attributes that OpenTelemetry's conventions give a request's span."""
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("adadim.request_id", request_id)
    for name in ("experiment_id", "attempt_id"):
        if (value := _path_parameter(scope, name)) is not None:
            span.set_attribute(f"adadim.{name}", str(value))
    if status >= 500:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR))


def _path_parameter(scope: Scope, name: str) -> Any:
    return scope.get("path_params", {}).get(name)


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", None)
    if route in _QUIET and 200 <= status < 400:
        return
    # As it came over the wire: percent-encoded, so that no line of a log can be forged.
    path = scope.get("raw_path", b"").decode("ascii", "replace")
    fields = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 4)}
    level = logging.INFO if status < 500 else logging.WARNING
    logger.log(level, "%s %s %d", scope["method"], path, status, extra={"fields": fields})
