"""Client of Ray's Jobs REST API: submit, look up, stop, read the log.

What Ray says of a job is a hint. The dispatcher decides; nothing here knows of experiments.
"""

import re
from dataclasses import dataclass
from typing import Any

import httpx

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class ClusterUnavailable(Exception):  # noqa: N818 - a state of the cluster, not a mistake
    """The cluster does not answer, or not as Ray does."""


@dataclass(frozen=True)
class Job:
    """A Ray job."""

    submission_id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


class RayJobs:
    """Ray's Jobs REST API at one address. `connect` may come later: a local cluster takes seconds to start."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None
        self.address: str | None = None

    async def connect(self, address: str, token: str | None) -> None:
        """Use this address from now on."""
        await self.close()
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(base_url=self.address, headers=headers, timeout=_TIMEOUT, trust_env=False)

    async def close(self) -> None:
        """Close connections; every call fails until the next `connect`."""
        client, self._client, self.address = self._client, None, None
        if client is not None:
            await client.aclose()

    async def version(self) -> str:
        """Ray's version. Raises ClusterUnavailable."""
        response = await self._request("GET", "/api/version")
        return str(_json(response)["ray_version"])

    async def submit(self, submission_id: str, entrypoint: str, environment: dict[str, str]) -> None:
        """Start a job. Not idempotent: `find` before trying again. Raises ClusterUnavailable."""
        await self._request(
            "POST",
            "/api/jobs/",
            json={
                "submission_id": submission_id,
                "entrypoint": entrypoint,
                "runtime_env": {"env_vars": environment},
            },
        )

    async def find(self, submission_id: str) -> Job | None:
        """The job, or None if Ray does not know it. Raises ClusterUnavailable."""
        response = await self._request("GET", f"/api/jobs/{submission_id}", missing_ok=True)
        if response is None:
            return None
        details = _json(response)
        return Job(submission_id, str(details["status"]), str(details.get("message") or ""))

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

    async def logs(self, submission_id: str) -> str | None:
        """The whole log of a job's driver, or None if Ray does not know it. Raises ClusterUnavailable."""
        response = await self._request("GET", f"/api/jobs/{submission_id}/logs", missing_ok=True)
        # Ray colours the names of its processes, for terminals that a kept log never sees.
        return None if response is None else _ANSI.sub("", str(_json(response).get("logs") or ""))

    async def _request(
        self, method: str, path: str, *, json: Any = None, missing_ok: bool = False
    ) -> httpx.Response | None:
        if self._client is None:
            raise ClusterUnavailable("the Ray cluster is still starting")
        try:
            response = await self._client.request(method, path, json=json)
        except httpx.HTTPError as error:
            raise ClusterUnavailable(f"no answer from Ray at {self.address}: {error or type(error).__name__}") from None
        if response.status_code == 404 and missing_ok:
            return None
        if response.status_code in (401, 403):
            raise ClusterUnavailable(f"Ray at {self.address} refuses the token; check RAY_AUTH_TOKEN")
        if response.is_error:
            reason = response.text.strip().splitlines()
            raise ClusterUnavailable(f"Ray answered {response.status_code}: {reason[-1] if reason else 'no reason'}")
        return response


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
