"""Client of Ray's Jobs REST API: submit, look up, stop, read the log.

What Ray says of a job is a hint. The dispatcher decides; nothing here knows of experiments.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from json import dumps as json_text
from typing import Any

import httpx

from adadim_core import network
from service.cluster.outage import Outage
from service.telemetry import tracing

MAX_ENVIRONMENT = 120 * 1024
"""Bytes of a job's environment as it is passed on: Linux takes 128 KiB an argument, and Ray adds words of its own."""
_LONGEST_REASON = 500
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_LOG_INTERVAL_S = 0.3
_PAUSE_S = 1.0
_OF_PROXIES = (502, 503, 504)
"""Ray answers with none of them: there is no Ray behind whatever does."""


class ClusterUnavailable(Exception):  # noqa: N818 - a state of the cluster, not a mistake
    """The cluster does not answer, or not as Ray does."""

    answered = False
    """Ray answered, with an error. Where it does not, the log has said so: outage.py."""


class _Answered(ClusterUnavailable):
    """Ray answered with an error."""

    answered = True

    def __init__(self, response: httpx.Response) -> None:
        # The last line of a traceback, behind which the head, passing on its agent's, puts a full stop.
        lines = [line.strip() for line in response.text.splitlines() if line.strip(" .")]
        self.reason = (lines or ["no reason"])[-1][:_LONGEST_REASON]
        refusal = response.status_code == 400 or "failed with status code 400" in response.text
        self.refused = refusal and "already exists" not in self.reason  # that one is ours, whose answer was lost
        super().__init__(f"Ray answered {response.status_code}: {self.reason}")


class JobRefused(Exception):  # noqa: N818 - Ray's decision
    """Ray will not take a job, however often it is submitted. The text says why."""


@dataclass(frozen=True)
class Job:
    """A Ray job."""

    submission_id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    driver_node: str | None = None
    """Where its driver runs; None until it does."""
    exit_code: int | None = None
    """Of its driver, once it has ended by itself."""

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


class RayJobs:
    """Ray's Jobs REST API at one address. `connect` may come later: a local cluster takes seconds to start."""

    def __init__(self, outage: Outage | None = None) -> None:
        """`outage`: told whether the cluster answers; None: nobody is."""
        self._outage = outage
        self._client: httpx.AsyncClient | None = None
        self._logs: httpx.AsyncClient | None = None
        """Of its own: however many follow a log, the dispatcher finds a connection free."""
        self.address: str | None = None
        self.token: str | None = None
        """The cluster's, which its processes know too; it stays while the cluster is away."""
        self.trouble: str | None = None
        """Why there is no cluster, where that is known."""
        self._end: tuple[str, float] | None = None

    async def connect(self, address: str, token: str | None) -> None:
        """Use this address from now on. Raises ClusterUnavailable where none can be there."""
        await self.close()
        self.address, self.token = address.rstrip("/"), token or None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            options = network.options(self.address) | {"base_url": self.address, "headers": headers}
            self._client = httpx.AsyncClient(**options, timeout=_TIMEOUT)
        except (httpx.InvalidURL, network.ProxyUnusable) as error:
            raise ClusterUnavailable(f"Ray at {address} cannot be asked: {error}") from None
        self._logs = httpx.AsyncClient(
            **options,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),  # who reads is counted elsewhere
        )

    async def close(self) -> None:
        """Close connections; every call fails until the next `connect`."""
        clients, self._client, self._logs, self.address = (self._client, self._logs), None, None, None
        for client in clients:
            if client is not None:
                await client.aclose()

    def cluster_ended(self, why: str) -> None:
        """Remember that the cluster there was has ended, and its jobs with it."""
        self._end = (why, time.monotonic())

    def end_within(self, span: timedelta) -> str | None:
        """Why the last cluster ended, if it did so within this time up to now; None: nothing is known of an end."""
        if self._end is None or time.monotonic() - self._end[1] > span.total_seconds():
            return None
        return self._end[0]

    async def version(self) -> str:
        """Ray's version. Raises ClusterUnavailable."""
        response = await self._request("GET", "/api/version")
        return str(_json(response)["ray_version"])

    async def submit(self, submission_id: str, entrypoint: str, environment: dict[str, str]) -> None:
        """Start a job. Not idempotent: `find` before trying again. Raises ClusterUnavailable, JobRefused."""
        # Ray takes a longer one and never starts it: its nodes have the environment, escaped twice, in one argument.
        size = len(json_text(json_text(environment)))
        if size > MAX_ENVIRONMENT:
            raise JobRefused(f"the job's environment has {size} bytes, of which Linux takes {MAX_ENVIRONMENT}")
        try:
            await self._request(
                "POST",
                "/api/jobs/",
                json={
                    "submission_id": submission_id,
                    "entrypoint": entrypoint,
                    "runtime_env": {"env_vars": environment},
                },
            )
        except _Answered as error:
            if error.refused:
                raise JobRefused(f"Ray refuses the job: {error.reason}") from None
            raise

    async def find(self, submission_id: str) -> Job | None:
        """The job, or None if Ray does not know it. Raises ClusterUnavailable."""
        response = await self._request("GET", f"/api/jobs/{submission_id}", missing_ok=True)
        if response is None:
            return None
        details = _json(response)
        return Job(
            submission_id,
            str(details["status"]),
            str(details.get("message") or ""),
            details.get("driver_node_id"),
            details.get("driver_exit_code"),
        )

    async def all(self) -> list[Job]:
        """Every job with a submission id that Ray knows, ended ones too. Raises ClusterUnavailable."""
        response = await self._request("GET", "/api/jobs/")
        found = _parsed(response)
        if not isinstance(found, list):
            raise ClusterUnavailable(f"not a Ray dashboard: {self.address}")
        return [
            Job(str(details["submission_id"]), str(details["status"]), str(details.get("message") or ""))
            for details in found
            if details.get("submission_id")
        ]

    async def stop(self, submission_id: str) -> bool:
        """Ask Ray to end a job; False if Ray does not know it. Raises ClusterUnavailable."""
        return await self._request("POST", f"/api/jobs/{submission_id}/stop", missing_ok=True) is not None

    async def log(self, submission_id: str, *, follow: bool = False) -> AsyncGenerator[bytes]:
        """The log of a job's driver from its start, in pieces; nothing if Ray has none. Raises ClusterUnavailable.

        With `follow` it does not end, not even with the job, and an empty piece says that a second passed without
        a new one. Ray's other ways: /api/jobs/{id}/logs is one string of any size, and the web socket beside it
        (logs/tail) closes without a word when token authentication is on (2.60).
        """
        job = await self.find(submission_id)
        if job is None or job.driver_node is None or self._logs is None:
            return
        params: dict[str, str | float] = {
            "node_id": job.driver_node,
            "filename": f"job-driver-{submission_id}.log",
            "lines": -1,
            "timeout": 120,
        }
        if follow:  # Ray refuses an interval for what it does not follow
            params["interval"] = _LOG_INTERVAL_S
        path = f"/api/v0/logs/{'stream' if follow else 'file'}"
        timeout = httpx.Timeout(_TIMEOUT.connect, read=None) if follow else _TIMEOUT
        try:
            async with self._logs.stream("GET", path, params=params, timeout=timeout) as response:
                if response.is_error:  # 500 while the job has not written anything
                    return
                pieces = response.aiter_bytes()
                async with aclosing(_with_pauses(pieces, _PAUSE_S if follow else None)) as found:
                    async for piece in found:
                        yield piece
        except httpx.HTTPError as error:
            raise ClusterUnavailable(f"the log broke off: {network.reason(error)}") from None

    async def _request(
        self, method: str, path: str, *, json: Any = None, missing_ok: bool = False
    ) -> httpx.Response | None:
        if self._client is None:
            raise ClusterUnavailable(self.trouble or "the Ray cluster is still starting")
        try:
            with tracing.span(f"ray {method}", **{"url.path": path}):
                response = await self._client.request(method, path, json=json)
        except httpx.HTTPError as error:
            where = network.route(str(self.address))
            raise self._away(f"no answer from Ray at {where}: {network.reason(error)}") from None
        if response.status_code in (401, 403):
            raise self._away(f"Ray at {self.address} refuses the token; check RAY_AUTH_TOKEN")
        if response.status_code in _OF_PROXIES:
            raise self._away(f"what is before Ray at {self.address} answers {response.status_code}")
        if self._outage is not None:
            self._outage.answered()
        if response.status_code == 404 and missing_ok:
            return None
        if response.is_error:
            raise _Answered(response)
        return response

    def _away(self, why: str) -> ClusterUnavailable:
        if self._outage is not None:
            self._outage.failed(why)
        return ClusterUnavailable(why)


async def _with_pauses(pieces: AsyncIterator[bytes], pause_s: float | None) -> AsyncGenerator[bytes]:
    """The pieces as they come, and an empty one for every pause without, if one is given."""
    coming: asyncio.Task[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(pieces))
            await asyncio.wait({coming}, timeout=pause_s)
            if not coming.done():
                yield b""
                continue
            try:
                piece = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield piece
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _json(response: httpx.Response | None) -> dict[str, Any]:
    body = _parsed(response)
    if not isinstance(body, dict):
        raise ClusterUnavailable("not a Ray dashboard: its answer is no object")
    return body


def _parsed(response: httpx.Response | None) -> Any:
    if response is None:
        raise ClusterUnavailable("Ray gave no answer")
    try:
        return response.json()
    except ValueError:
        raise ClusterUnavailable(f"not a Ray dashboard: {response.url}") from None
