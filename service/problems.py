"""Errors as RFC 9457 problem details: what happened, where in the input, what to do.

Owns the form of errors, and the one table from what decisions raise (errors.py) to HTTP's status. Every error a caller
can cause is a `ServiceError`, or a `Problem` of HTTP's own; anything else is a bug and answers 500 without details.
"""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.database.engine import DATABASE_ERRORS, is_away
from service.errors import (
    ConflictError,
    FieldError,
    InvalidError,
    NotAllowedError,
    NotAuthenticatedError,
    NotFoundError,
    ServiceError,
    TooManyError,
    UnavailableError,
)
from service.schema import Schema

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(Schema):
    """The body of every error response."""

    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


_STATUS: dict[type[ServiceError], int] = {
    NotAuthenticatedError: 401,
    NotAllowedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    InvalidError: 422,
    TooManyError: 429,
    UnavailableError: 503,
}


class Problem(Exception):  # noqa: N818 - the RFC's word
    """An error only HTTP has: of methods, bodies, content types. `status` is the HTTP status."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.details = ProblemDetails(title=title, status=status, detail=detail, errors=list(errors))
        self.headers = headers


_REF = "#/components/schemas/{model}"
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemDetails")}}},
    }
    for status, description in {
        400: "The request cannot be read.",
        401: "No valid token.",
        403: "The token does not allow this.",
        404: "No such thing.",
        409: "The request contradicts the present state.",
        413: "The body is too large.",
        415: "The body is of a kind that is not taken here.",
        422: "A field is wrong; `errors` says which.",
        429: "The token makes too many requests; Retry-After says when to go on.",
        503: "The database does not answer; Retry-After says when to try again.",
    }.items()
}


def install(app: FastAPI) -> None:
    """Answer every error of this application as problem details."""
    kinds = (
        Problem,
        ServiceError,
        RequestValidationError,
        HTTPException,
        ClientDisconnect,
        *DATABASE_ERRORS,
        Exception,
    )
    for kind in kinds:
        app.add_exception_handler(kind, answer)
    app.add_middleware(_TooLargeAsProblem)
    _describe(app)


def _describe(app: FastAPI) -> None:
    """Put the schema of problem details into the API's document. FastAPI would list it as application/json."""
    document_of = app.openapi

    def openapi() -> dict[str, Any]:
        document = document_of()
        schema = ProblemDetails.model_json_schema(ref_template=_REF)
        document["components"]["schemas"] |= {**schema.pop("$defs"), "ProblemDetails": schema}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


class _TooLargeAsProblem:
    """ASGI middleware: Starlette answers a declared length over the limit in plain text, past every handler."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def observed(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                replaced = (b"content-type", b"text/plain; charset=utf-8") in message["headers"]
                if replaced:
                    await _response(_too_large(scope))(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, observed)


def _too_large(scope: Scope) -> ProblemDetails:
    limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
    return ProblemDetails(title="Body too large", status=413, detail=f"The body may have at most {limit} bytes here.")


def problem_response(problem: Problem) -> JSONResponse:
    """The answer to a request, where no handler would make it."""
    return _response(problem.details, problem.headers)


def _response(details: ProblemDetails, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(details.model_dump(), details.status, headers, MEDIA_TYPE)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """What a request is answered that raised this."""
    if isinstance(error, Problem):
        return problem_response(error)
    if isinstance(error, ServiceError):
        return _on_service_error(error)
    if isinstance(error, RequestValidationError):
        return _on_validation_error(error)
    if isinstance(error, HTTPException):
        return _on_http_exception(request, error)
    if isinstance(error, ClientDisconnect):
        return problem_response(Problem(400, "Incomplete", "The connection ended before the body did."))
    if isinstance(error, DATABASE_ERRORS) and is_away(error):
        return _on_database_away(request, error)
    return await on_bug(request, error)


def status_of(error: ServiceError) -> int:
    """The HTTP status of what a decision raised."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def _on_service_error(error: ServiceError) -> JSONResponse:
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return _response(
        ProblemDetails(title=error.shown_title, status=status, detail=error.detail, errors=error.errors), headers
    )


def _on_validation_error(error: RequestValidationError) -> JSONResponse:
    errors: list[FieldError] = []
    for detail in error.errors()[:20]:
        where, *path = detail["loc"]
        if detail["type"] == "json_invalid":
            pointer = ""  # pydantic gives the position in the text, which is no field
        elif where == "body":
            pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
        else:
            pointer = ".".join(str(step) for step in path)
        # A name half of a surrogate pair cannot be sent back as it is.
        pointer = pointer.encode("utf-8", "replace").decode()
        found = FieldError(pointer=pointer, detail=detail["msg"].removeprefix("Value error, "))
        if found not in errors:  # a parameter that a dependency reads too is wrong twice
            errors.append(found)
    first = errors[0]
    return _response(
        ProblemDetails(title="Invalid request", status=422, detail=f"{first.pointer}: {first.detail}", errors=errors)
    )


def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == 413:
        return _response(_too_large(request.scope))
    title = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, "Error")
    headers = dict(error.headers) if error.headers else None
    return _response(ProblemDetails(title=title, status=error.status_code, detail=str(error.detail)), headers)


def _on_database_away(request: Request, error: Exception) -> JSONResponse:
    """503 for a database that starts, stops or has no connection left."""
    logger.warning("%s %s: the database is away: %s", request.method, request.url.path, error)
    details = ProblemDetails(title="Unavailable", status=503, detail="The database does not answer; try again.")
    return _response(details, {"Retry-After": "2"})


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """500 without details: those are in the log."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(
        ProblemDetails(title="Internal error", status=500, detail="The service failed; its log has the reason.")
    )
