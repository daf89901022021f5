"""Bounds on what may arrive over HTTP before any route sees it: bodies, their encoding, and heads.

Body sizes are Starlette's doing; each route may state its own (`max_body_size`). Rates are rate.py's.
"""

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import MEDIA_TYPE, Problem, ProblemDetails, problem_response

MAX_BODY_BYTES = 64 * 1024
"""Of any request but those that say otherwise (specs, reports)."""
MAX_HEAD_BYTES = 64 * 1024
"""Of a request line with its headers, give or take one read from the socket."""


class BodyLimits(RequestBodyLimitMiddleware):
    """Bounded bodies, counted as they arrive; no compressed ones, of which a few kilobytes become gigabytes."""

    def __init__(self, app: ASGIApp) -> None:
        # The application's own `max_body_size` would be outside every middleware, and its plain-text 413 with it.
        super().__init__(app, MAX_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                refuse_encoding(scope)
            except Problem as refusal:
                await problem_response(refusal)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def refuse_encoding(scope: Scope) -> None:
    """Raise Problem (415) for a request with a compressed body."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Problem(
                415,
                "Unsupported encoding",
                "Send the body as it is: a compressed one (Content-Encoding) is not taken.",
                headers={"Accept-Encoding": "identity"},
            )


class BoundedHead(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which by itself would collect headers until the memory is full."""

    _in_head = False
    _head_bytes = 0
    """Read into a head that is still going on."""

    def data_received(self, data: bytes) -> None:
        goes_on = self._in_head
        super().data_received(data)
        if goes_on and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()


def _head_too_large() -> bytes:
    detail = f"The request line and its headers may have at most {MAX_HEAD_BYTES} bytes."
    body = ProblemDetails(title="Head too large", status=431, detail=detail).model_dump_json().encode()
    head = (
        "HTTP/1.1 431 Request Header Fields Too Large\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


_HEAD_TOO_LARGE = _head_too_large()
