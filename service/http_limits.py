"""Bounds on what may arrive over HTTP before any route sees it: bodies, their encoding, and heads.

Body sizes are Starlette's doing; each route may state its own (`max_body_size`). Rates are rate.py's.
"""

import asyncio
from typing import ClassVar

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import MEDIA_TYPE, Problem, ProblemDetails, problem_response

MAX_BODY_BYTES = 64 * 1024
"""Of any request but those that say otherwise (specs, reports)."""
HEAD_S = 10.0
"""A connection whose next head is begun, or whose first is awaited, has this long to send it."""
MAX_AWAITED_HEADS = 200
"""Connections without a whole head at a time: beyond that those that are silent longest are closed."""
GRACE_S = 1.0
"""But not before this: hundreds of workers may connect at the same moment, and their requests are on the way."""
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
    """uvicorn's HTTP protocol with bounds on heads: on their size, on their time, and on how many are awaited at once.

    By itself uvicorn would collect headers until the memory is full, and wait for a first request indefinitely.
    """

    _awaited: ClassVar[dict["BoundedHead", float]] = {}
    """Connections of this process that have not sent a whole head, with since when: the longest silent first."""
    _in_head = False
    _head_bytes = 0
    """Bytes of the head read so far."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._give_up)
        now = self.loop.time()
        self._awaited[self] = now
        while len(self._awaited) > MAX_AWAITED_HEADS:
            oldest, since = next(iter(self._awaited.items()))
            if now - since < GRACE_S:
                break
            oldest._give_up()

    def _head_is_here(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._awaited.pop(self, None)

    def _give_up(self) -> None:
        self._head_is_here()
        self.transport.close()

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
        if self._timer is None:  # not the first on its connection
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_here()
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
