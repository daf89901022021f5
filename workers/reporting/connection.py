"""One HTTP connection to the service, with the answers of POST /attempts/{id}/reports as Python outcomes.

Owns the meaning of status codes. Does not retry, batch or buffer: reporter.py and attempt.py do.
"""

import json
import re
from dataclasses import dataclass, field, replace

import httpx
from pydantic import ValidationError

from adadim_core import network
from adadim_core.spec import report_binary
from adadim_core.spec.report import Report, ReportReply
from workers.errors import RunError
from workers.reporting.claim import Claim, new_token

# httpx logs every request at INFO; a heartbeat each 2 s would fill the job's log.
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


@dataclass(frozen=True)
class ServiceAddress:
    """Where an attempt reports, and the right to do so.

    Raises:
        RunError: no report can go there.
    """

    url: str
    """Base address of the service, as http://127.0.0.1:8080."""
    attempt: str
    """Identifier of the attempt. Part of paths and of the names of files."""
    token: str = field(repr=False)
    """Opens this attempt's reports and nothing else. Kept out of every log and file."""
    claim: Claim | None = None
    """To be made before the first report: whether the service has taken it is not known."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", self.attempt):
            raise RunError(f"{self.attempt[:100]!r} is no attempt of a service: letters, digits, - and _ name one")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise RunError(f"{self.url} is no address of a service: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise RunError(f"{self.url} is no address of a service: it looks like http://127.0.0.1:8080")
        try:
            network.proxy(self.url)
        except network.ProxyUnusable as error:
            raise RunError(f"the service at {self.url} cannot be reached: {error}") from None


class Superseded(Exception):  # noqa: N818 - states of the attempt, not errors
    """The service takes no more reports from this attempt: another one runs, or it was cancelled."""


class Refused(Exception):  # noqa: N818
    """The service does not take this report as it is."""


def why_refused(error: Refused | ValidationError) -> str:
    """Why a report is not taken, in one line: by the service, or here where it was put together."""
    if isinstance(error, Refused):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


class Unavailable(Exception):  # noqa: N818
    """The service did not answer, or asks to be tried again."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotTaken(Exception):  # noqa: N818
    """The service does not take this process for the attempt's job. The text says why."""


def with_own_token(url: str, attempt: str, code: str) -> ServiceAddress:
    """Where to report, with a token that only this process knows.

    Tried once: a run does not wait for the service. Where no answer comes, whoever reports first asks again.

    Args:
        url: the service's address.
        attempt: the attempt's identifier.
        code: what the job was started with, which proves nothing.

    Raises:
        NotTaken: the service answered that it does not take this process's reports.
        RunError: `url` or `attempt` are none.
    """
    token = new_token()
    address = ServiceAddress(url, attempt, token, Claim.of(attempt, code, token))
    client = _client(address)
    try:
        _take_over(client, address, timeout=5.0)
    except Superseded as error:
        raise NotTaken(str(error)) from None
    except Unavailable:
        return address
    finally:
        client.close()
    return replace(address, claim=None)


def _base(address: ServiceAddress) -> str:
    return f"{address.url.rstrip('/')}/api/v1/attempts/{address.attempt}"


def _client(address: ServiceAddress) -> httpx.Client:
    headers = {"Authorization": f"Bearer {address.token}"}
    return httpx.Client(headers=headers, timeout=_TIMEOUT, **network.options(address.url))


class Connection:
    """Posts reports. Used by one thread at a time."""

    def __init__(self, address: ServiceAddress) -> None:
        self._path = f"{_base(address)}/reports"
        self._address, self._claimed = address, address.claim is None
        self._client = _client(address)
        self._client.headers["Content-Type"] = report_binary.MEDIA_TYPE

    def post(self, report: Report, *, timeout: float | None = None) -> ReportReply:
        """Deliver one report.

        Raises:
            Superseded: 401, 403, 404, 409, 410.
            Refused: 413, 422: the same report will not be taken later either.
            Unavailable: no answer, every other status, or an answer that is not the service's: what a proxy says
                on its own account (404 while a service is replaced, 407, 431) does not come from the service.
        """
        if not self._claimed:
            _take_over(self._client, self._address, timeout=timeout)
            self._claimed = True
        limits = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(max(timeout, 0.1))
        try:
            response = self._client.post(self._path, content=report_binary.encode(report), timeout=limits)
        except (httpx.HTTPError, OSError) as error:  # OSError: no file descriptor left, say
            raise Unavailable(f"{type(error).__name__}: {network.reason(error)}") from error
        _check(response)
        try:
            return ReportReply.model_validate_json(response.content)
        except ValidationError as error:
            raise Unavailable(f"not the answer of an AdaDim service: {response.text[:100]!r}") from error

    def close(self) -> None:
        self._client.close()


def _take_over(client: httpx.Client, address: ServiceAddress, *, timeout: float | None) -> None:
    """Have the service bind the attempt to this address's token. Raises Superseded, Refused, Unavailable."""
    claim = address.claim
    if claim is None:
        return
    try:
        response = client.put(
            f"{_base(address)}/token",
            headers={"Authorization": f"Bearer {claim.code}", "Content-Type": "application/json"},
            content=json.dumps({"sha256": claim.sha256, "proof": claim.proof}),
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(max(timeout, 0.1)),
        )
    except (httpx.HTTPError, OSError) as error:
        raise Unavailable(f"{type(error).__name__}: {network.reason(error)}") from error
    _check(response)


def _check(response: httpx.Response) -> None:
    """Raise Superseded, Refused or Unavailable unless the service took what was sent."""
    status = response.status_code
    by_service = response.headers.get("Content-Type", "").startswith("application/problem+json")
    if by_service and status in (401, 403, 404, 409, 410):
        raise Superseded(f"HTTP {status}: {_detail(response)}")
    if by_service and status in (413, 422):
        raise Refused(f"HTTP {status}: {response.text[:1000]}")
    if not response.is_success:
        raise Unavailable(f"HTTP {status}", retry_after=_seconds(response.headers.get("Retry-After")))


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its date form is left to the ordinary backoff."""
    try:
        return min(max(float(retry_after or ""), 0.0), 60.0)
    except ValueError:
        return None
