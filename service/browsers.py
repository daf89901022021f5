"""What protects people's browsers in every answer and before every route: security headers, and whose name is ours.

Owns no pages: those state a policy of their own (dashboard/endpoints.py). Cookies and writes are auth's.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem, problem_response
from service.settings import Settings
from service.telemetry.counters import DENIED

_NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Of answers that are no pages."""
_HOST = re.compile(rb"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_NOBODYS = (".localhost", ".local", ".internal", ".svc", ".svc.cluster.local")
"""Names that nobody on the Internet can have: they are made up on the machine, in the network or in the cluster."""
_MOST_REMEMBERED = 1_000


class SecurityHeaders:
    """ASGI middleware: no answer is framed, sniffed for another type, or tells other sites its address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _NO_CONTENT_POLICY)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, with_headers)


class AllowedHosts:
    """ASGI middleware: takes requests that call the service by one of its names only.

    A page of another site whose name its owner points at this machine (DNS rebinding) counts as one of ours in the
    browser; but its requests say what the browser took us for.
    """

    def __init__(self, app: ASGIApp, settings: Settings, url: str) -> None:
        self._app = app
        others = [settings.host, urlsplit(url).hostname, socket.gethostname()]
        others += (settings.allowed_hosts or "").split(",")
        self._names = {name.strip().lower() for name in others if name}
        self._known: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            if host not in self._known and not self._allows(host):
                await _refused(Request(scope))(scope, receive, send)
                return
            if len(self._known) < _MOST_REMEMBERED:
                self._known.add(host)
        await self._app(scope, receive, send)

    def _allows(self, host: bytes) -> bool:
        if not host:  # HTTP/1.0, which no browser speaks
            return True
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].decode().lower().rstrip(".")
        return "." not in name or name in self._names or name.endswith(_NOBODYS) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _refused(request: Request) -> Response:
    DENIED.labels(421, "host").inc()
    name = request.headers["host"][:200].encode("ascii", "replace").decode()
    detail = f"This service does not go by the name {name}. If it should, add it to ADADIM_ALLOWED_HOSTS."
    return problem_response(Problem(421, "Misdirected request", detail))
