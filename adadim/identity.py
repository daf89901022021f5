"""Whether who listens at an address is the service of this machine's state directory. Asked before its token is sent.

A port is anyone's once its service has ended: `service.json` may be stale, or ADADIM_URL.
"""

import hmac
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from adadim_core import network
from adadim_core.spec.service_proof import ROUTE, service_proof

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


class NotItself(httpx.TransportError):
    """Who listens there does not know the token. The text says so for people."""


class Identity:
    """The service that knows the token of a state directory."""

    def __init__(self, url: str, token: str, directory: Path) -> None:
        self._url, self._token, self._directory = url.rstrip("/"), token, directory
        parts = urlsplit(url)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)

    def check(self) -> None:
        """Ask who listens. Raises NotItself; httpx.HTTPError where nobody answers."""
        nonce = secrets.token_hex(32)
        response = httpx.get(
            f"{self._url}{ROUTE}", params={"nonce": nonce}, timeout=_TIMEOUT, **network.options(self._url)
        )
        try:
            shown = str(response.json()["proof"])
        except (ValueError, KeyError, TypeError):
            shown = ""
        if not hmac.compare_digest(shown.encode(), service_proof(self._token, nonce, self._port).encode()):
            raise NotItself(
                f"what listens at {self._url} is not the service of {self._directory}, whose token was not sent: start "
                "`adadim serve`, or set ADADIM_URL and ADADIM_TOKEN"
            )


class CheckedTransport(httpx.HTTPTransport):
    """Checks once more whenever a connection is made, before anything is sent: the port may be another's by then."""

    def __init__(self, check: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._check = check

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "trace": self._trace}
        return super().handle_request(request)

    def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._check()
