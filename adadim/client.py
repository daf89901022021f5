"""The service over HTTP: one class, one method a route, JSON values in and out.

Errors carry the service's own words. What stands over it, for notebooks and scripts, is in experiments.py.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
from httpx_sse import SSEError, connect_sse

from adadim.identity import CheckedTransport, Identity, NotItself
from adadim_core import network

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_RECONNECT_S = 1.0


class ClientError(Exception):
    """The service refused a request or did not answer. The text is for people."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: int
    kind: str
    """experiment, trial or points; reset when points before its `seq` are no longer sent: read series again."""
    data: dict[str, Any]


class Client:
    """A connection to one service. Use it as a context manager."""

    def __init__(self, url: str, token: str, *, of: Path | None = None) -> None:
        """A client of the service at `url`.

        Args:
            url: the service's address.
            token: what is sent with every request.
            of: the state directory whose token it is: it is sent only to who shows that they know it already.

        Raises:
            ClientError: no service can be there, or another than that of the state directory is.
        """
        self.url = url.rstrip("/")
        try:
            if httpx.URL(self.url).scheme not in ("http", "https") or not httpx.URL(self.url).host:
                raise ClientError(f"{url} is no address of a service: it looks like http://127.0.0.1:8080")
            options = network.options(self.url)
            if of is not None:
                identity = Identity(self.url, token, of)
                identity.check()
                options["transport"] = CheckedTransport(identity.check, **options)
            self._http = httpx.Client(
                base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT, **options
            )
        except (httpx.InvalidURL, network.ProxyUnusable) as error:
            raise ClientError(f"{url} cannot be asked: {error}") from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        self._words: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def submit(
        self, spec: str, *, dry_run: bool = False, idempotency_key: str | None = None, priority: int = 0
    ) -> dict[str, Any]:
        """Submit YAML text. Returns the experiment; with `dry_run`, the plan."""
        headers = {"Content-Type": "application/yaml"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        params = {"dry_run": dry_run, "priority": priority}
        return self._json("POST", "/experiments", content=spec.encode(), headers=headers, params=params)

    def words(self) -> dict[str, Any]:
        """Titles and formats of metrics, what states mean, and the words of actions. Asked for once."""
        if self._words is None:
            self._words = self._json("GET", "/words")
        return self._words

    def experiments(self, limit: int = 50, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The newest experiments, with all of these labels: `project=x`, or `project` for any value."""
        params = {"limit": limit, "label": list(labels)}
        items: list[dict[str, Any]] = self._json("GET", "/experiments", params=params)["items"]
        return items

    def experiment(self, experiment_id: int) -> dict[str, Any]:
        """One experiment with its spec."""
        return self._json("GET", f"/experiments/{experiment_id}")

    def trials(self, experiment_id: int) -> list[dict[str, Any]]:
        """Every trial of an experiment."""
        return self._all(f"/experiments/{experiment_id}/trials", limit=1000)

    def metrics(self, experiment_id: int, names: list[str] | None, max_points: int = 1000) -> dict[str, Any]:
        """Series of all trials; without names, of every metric."""
        return self._series(f"/experiments/{experiment_id}/metrics", names, max_points)

    def trial_metrics(self, trial_id: int, names: list[str] | None, max_points: int = 1000) -> dict[str, Any]:
        """Series of one trial; without names, of every metric."""
        return self._series(f"/trials/{trial_id}/metrics", names, max_points)

    def answer(self, experiment_id: int) -> dict[str, Any]:
        """Which configuration is best, by how much, and what is not known."""
        return self._json("GET", f"/experiments/{experiment_id}/answer")

    def act(self, action: str, experiment_id: int) -> dict[str, Any]:
        """cancel, pause, resume or retry an experiment. The answer's `message` says what was done."""
        return self._json("POST", f"/experiments/{experiment_id}/{action}")

    def cancel(self, experiment_id: int) -> dict[str, Any]:
        """Ask for an experiment to end."""
        return self.act("cancel", experiment_id)

    def pause(self, experiment_id: int) -> dict[str, Any]:
        """Free the cluster until `resume`."""
        return self.act("pause", experiment_id)

    def resume(self, experiment_id: int) -> dict[str, Any]:
        """Queue a paused experiment again."""
        return self.act("resume", experiment_id)

    def retry(self, experiment_id: int) -> dict[str, Any]:
        """Queue a failed or cancelled experiment again."""
        return self.act("retry", experiment_id)

    def delete(self, experiment_id: int, *, confirm: bool = False) -> dict[str, Any]:
        """Delete an experiment with all it left behind. Unconfirmed it is refused with what would go."""
        return self._json("DELETE", f"/experiments/{experiment_id}", params={"confirm": confirm})

    def clone(
        self, experiment_id: int, changes: dict[str, Any] | None = None, *, priority: int | None = None
    ) -> dict[str, Any]:
        """Submit an experiment's spec as a new one, with fields changed: dotted paths to values."""
        body = {"changes": changes or {}, "priority": priority}
        return self._json("POST", f"/experiments/{experiment_id}/clone", json=body)

    def extend(
        self, experiment_id: int, *, seeds: int | list[int] | None = None, trials: int | None = None
    ) -> dict[str, Any]:
        """Queue an ended sweep again with more seeds or configurations: only the trials it lacks run."""
        return self._json("POST", f"/experiments/{experiment_id}/extend", json={"seeds": seeds, "trials": trials})

    def history(self, experiment_id: int) -> list[dict[str, Any]]:
        """Every transition of an experiment, oldest first."""
        return self._all(f"/experiments/{experiment_id}/history", limit=1000)

    def create_token(self, name: str, role: str, *, expires_in_days: int | None = 90) -> dict[str, Any]:
        """Make a token (admins only). The answer has its value, this once."""
        return self._json("POST", "/tokens", json={"name": name, "role": role, "expires_in_days": expires_in_days})

    def tokens(self) -> list[dict[str, Any]]:
        """Every token that was not revoked, without its value (admins only)."""
        return self._all("/tokens", limit=200)

    def revoke_token(self, token_id: int) -> None:
        """End a token and its browser sessions (admins only)."""
        self._request("DELETE", f"/tokens/{token_id}")

    def audit(self, **asked: Any) -> Iterator[dict[str, Any]]:
        """Who did what, newest first (admins only). Filters: by, action, experiment, since, until."""
        params: dict[str, Any] = {name: value for name, value in asked.items() if value is not None} | {"limit": 200}
        while True:
            page = self._json("GET", "/audit", params=params)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    def logs(self, experiment_id: int, *, follow: bool = False) -> Iterator[str]:
        """The log of the latest attempt, in pieces."""
        return self._text(f"/experiments/{experiment_id}/logs", follow)

    def trial_logs(self, trial_id: int, *, follow: bool = False) -> Iterator[str]:
        """What one trial printed, in pieces."""
        return self._text(f"/trials/{trial_id}/logs", follow)

    def export(self, experiment_id: int, form: str, rows: str = "points") -> Iterator[bytes]:
        """`points` or `trials` as a file, `csv` or `parquet`, in pieces. Raises ClientError if it breaks off."""
        return self._bytes(f"/experiments/{experiment_id}/{rows}.{form}")

    def encoder(self, trial_id: int) -> Iterator[bytes]:
        """The encoder that a finished trial exported, in pieces. Raises ClientError if it breaks off."""
        return self._bytes(f"/trials/{trial_id}/encoder")

    def _series(self, path: str, names: list[str] | None, max_points: int) -> dict[str, Any]:
        params = {"max_points": max_points} | ({"metrics": ",".join(names)} if names else {})
        return self._json("GET", path, params=params)

    def _bytes(self, path: str) -> Iterator[bytes]:
        timeout = httpx.Timeout(_TIMEOUT.connect, read=120.0)
        try:
            with self._http.stream("GET", f"/api/v1{path}", timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._broken_off(error) from None

    def _text(self, path: str, follow: bool) -> Iterator[str]:
        timeout = httpx.Timeout(_TIMEOUT.connect, read=None) if follow else _TIMEOUT
        path = f"/api/v1{path}"
        try:
            with self._http.stream("GET", path, params={"follow": follow}, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield from response.iter_text()
        except httpx.HTTPError as error:
            raise self._broken_off(error) from None

    def events(self, experiment_id: int, *, after: int = 0, patience_s: float = 60.0) -> Iterator[Event]:
        """Follow an experiment indefinitely, across lost connections and restarts of the service.

        Raises ClientError when the service stays away longer than `patience_s`.
        """
        last, lost_at = after, None
        while True:
            try:
                with connect_sse(
                    self._http,
                    "GET",
                    f"/api/v1/experiments/{experiment_id}/events",
                    headers={"Last-Event-ID": str(last)},
                    timeout=httpx.Timeout(_TIMEOUT.connect, read=45.0),
                ) as source:
                    if source.response.is_server_error:  # a proxy, or a service that starts
                        raise httpx.ReadError(f"HTTP {source.response.status_code}")
                    if source.response.is_error:
                        source.response.read()
                        raise _error(source.response)
                    lost_at = None
                    for event in source.iter_sse():
                        if event.event == "reset":  # no place of its own: what follows is the states from `last` on
                            yield Event(last, event.event, json.loads(event.data))
                        elif event.event in ("experiment", "trial", "points"):
                            last = int(event.id)
                            yield Event(last, event.event, json.loads(event.data))
            except (httpx.HTTPError, SSEError) as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > patience_s:
                    raise self._unreachable(error) from None
                time.sleep(_RECONNECT_S)

    def is_ready(self) -> bool:
        """Whether the service answers and its database does."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _all(self, path: str, *, limit: int) -> list[dict[str, Any]]:
        """Every item of a list, over as many pages as there are."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self._json("GET", path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._request(method, path, **options)
        try:
            body: dict[str, Any] = response.json()
        except ValueError:
            raise ClientError(f"what answers at {self.url} is not an AdaDim service") from None
        return body

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, f"/api/v1{path}", **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise _error(response)
        return response

    def _broken_off(self, error: Exception) -> ClientError:
        """Why a stream ended early: the service breaks off those of a revoked token, and cannot say so there."""
        try:
            self._request("GET", "/session")
        except ClientError as refusal:
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                return refusal
        return self._unreachable(error)

    def _unreachable(self, error: Exception) -> ClientError:
        if isinstance(error, NotItself):
            return ClientError(str(error))
        question = "" if network.is_tls(error) else "; is `adadim serve` running?"
        return ClientError(f"no answer from {network.route(self.url)} ({network.reason(error)}){question}")


def _error(response: httpx.Response) -> ClientError:
    """The service's problem details as text, one line a field."""
    try:
        problem = response.json()
        lines = [f"{e['pointer'] or 'spec'}: {e['detail']}" for e in problem.get("errors", [])]
        text = "\n".join(lines) if lines else str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        text = (
            f"{response.url.copy_with(path='/', query=None)} answers HTTP {response.status_code} "
            f"{response.reason_phrase}, not as an AdaDim service does: is that its address, and does it run?"
        )
    return ClientError(text, response.status_code)
