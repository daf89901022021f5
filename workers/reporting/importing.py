"""`python -m workers import RESULTS --service URL`: bring a run made without the service into it.

Owns the order: the experiment, its points, its trials, its outcome. Imported twice, a run is one experiment.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from adadim_core import network
from adadim_core.retrying import Backoff, retry
from adadim_core.spec.report import Outcome, Report, TrialUpdate
from workers.errors import RunError, os_error
from workers.reporting.attempt import portion, shortened
from workers.reporting.connection import Connection, Refused, ServiceAddress, Superseded, Unavailable, why_refused
from workers.storage.folder import Storage, read_json
from workers.storage.opening import open_storage
from workers.storage.points import read_points
from workers.storage.results import commonest_error, read_results, run_succeeded
from workers.storage.spool import to_report
from workers.storage.trial_result import TrialResult

_PATIENCE_SECONDS = 300.0
_UNFINISHED = ("pending", "running", "interrupted")


def main(arguments: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers import", description="Bring a run made without the service into it."
    )
    parser.add_argument("results", metavar="RESULTS", help="where the run's results are: a folder, s3:// or gs://")
    parser.add_argument("--service", metavar="URL", required=True, help="address of the service")
    options = parser.parse_args(arguments)
    try:
        token = os.environ.get("ADADIM_TOKEN", "").strip()
        if not token:
            raise RunError("ADADIM_TOKEN is not set: an import takes the token of a submitter")
        if not re.fullmatch(r"[!-~]+", token):
            raise RunError("ADADIM_TOKEN is not a token: it has characters no token has")
        print(import_results(open_storage(options.results), options.service, token), flush=True)
    except (RunError, OSError) as error:  # OSError: the storage went away
        print(os_error(error) if isinstance(error, OSError) else error, file=sys.stderr, flush=True)
        return 1
    return 0


def import_results(storage: Storage, url: str, token: str) -> str:
    """Import a finished run. Returns what happened, for people.

    Raises:
        RunError: there are no results of a finished run, or the service does not take them.
        OSError: the storage cannot be read.
    """
    spec, results = _finished(storage)
    opened = _open(url, token, {"id": storage.experiment_id(), "spec": json.dumps(spec)})
    number = opened["experiment_id"]
    if opened["attempt_id"] is None:
        return f"experiment {number} has these results already"
    connection = Connection(ServiceAddress(url, str(opened["attempt_id"]), opened["token"]))
    try:
        count = _send(connection, storage, results)
    except (Refused, ValidationError) as error:
        raise RunError(f"the service refused a part of the results: {why_refused(error)}") from error
    return f"imported as experiment {number}: {len(results)} trials, {count} points"


def _send(connection: Connection, storage: Storage, results: Sequence[TrialResult]) -> int:
    """Report the whole run. Returns how many points it has."""
    count = 0
    for points in read_points(storage):
        _post(connection, to_report(points))
        count += sum(len(point.values) for point in points)
    updates = [_update(result) for result in results]
    while updates:
        trials = portion(updates)
        _post(connection, Report(trials=trials))
        updates = updates[len(trials) :]
    for facts in (read_json(storage.results) or {}).get("data", []):  # which a run of before has not
        try:
            _post(connection, Report(data={facts["fingerprint"]: facts}))
        except (Refused, ValidationError) as error:  # as in a run: its results are worth more
            print(f"what was read of a data set is left out: {why_refused(error)}", file=sys.stderr, flush=True)
    _post(connection, Report(outcome=_outcome(results)))
    return count


def _finished(storage: Storage) -> tuple[dict[str, Any], list[TrialResult]]:
    spec_file = storage.root / "spec.json"
    for path in (spec_file, storage.results, storage.parquet):
        if not storage.fetch(path):
            raise RunError(f"{storage.shown(path)} is missing: these are not the results of a finished run")
    spec, results = read_json(spec_file), read_results(storage)
    left = [str(result.number) for result in results if result.state in _UNFINISHED]
    if spec is None or left:
        raise RunError(
            f"the run in {storage.place} has not finished (trials {', '.join(left)}); "
            "run its spec again with the same --storage, then import it"
        )
    return spec, results


def _open(url: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/api/v1/experiments/import",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            **network.options(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL, network.ProxyUnusable) as error:
        raise RunError(f"the service at {network.route(url)} does not answer: {network.reason(error)}") from error
    if not response.is_success:
        raise RunError(f"the service does not take this import: HTTP {response.status_code}: {response.text[:1000]}")
    try:
        opened: dict[str, Any] = response.json()
    except ValueError as error:
        raise RunError(f"{url} is no AdaDim service: it answers {response.text[:100]!r}") from error
    return opened


def _post(connection: Connection, report: Report) -> None:
    try:
        retry(
            lambda: connection.post(report),
            Unavailable,
            deadline=time.monotonic() + _PATIENCE_SECONDS,
            backoff=Backoff(longest=5.0),
            asked=lambda error: error.retry_after,
        )
    except Unavailable as error:
        raise RunError(f"the service went away ({error}); import again to go on") from error
    except Superseded as error:
        raise RunError(f"this import was overtaken by another one, or cancelled: {error}") from error


def _update(result: TrialResult) -> TrialUpdate:
    return TrialUpdate(
        number=result.number,
        state=result.state,
        epoch=result.epoch,
        epochs=result.epochs,
        error=shortened(result.error),
        reason=result.reason,
        params=result.params or None,
    )


def _outcome(results: Sequence[TrialResult]) -> Outcome:
    if run_succeeded(results):
        return Outcome(state="succeeded")
    return Outcome(state="failed", error=shortened(f"every trial failed\n{commonest_error(results)}"))
