"""Counts and times HTTP requests by route, as ASGI middleware that leaves streams alone."""

import functools
import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.counters import LATENCY, REQUESTS


@functools.lru_cache(maxsize=1024)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Finding them by their labels takes longer than counting."""
    return REQUESTS.labels(method, route, status), LATENCY.labels(method, route)


class HttpMetrics:
    """ASGI middleware: one count and one time a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's template, never the path: labels must stay few.
                route = getattr(scope.get("route"), "path", "none")
                requests, latency = _series(scope["method"], route, message["status"])
                requests.inc()
                latency.observe(time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, observed)
