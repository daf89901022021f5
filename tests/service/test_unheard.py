"""Attempts whose worker says nothing: nodes without the workers, workers that cannot reach the service."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dispatch_harness import LONG_AGO, attempts_of, change, dispatching, ended, fall_silent, submitted
from service_harness import RayStandIn, Worker, queue, sweep, until

from adadim_core.storage import layout
from adadim_core.storage.atomic import write_text
from service.context import Context
from service.database.tables import Attempt
from service.experiments import artefacts

pytestmark = pytest.mark.usefixtures("quick_dispatch")

ADDRESS = "http://10.0.0.7:8600 (through the proxy http://127.0.0.1:9 of its environment)"


async def never_heard(context: Context, attempt_id: int) -> None:
    """As if an attempt had been submitted a day ago, and its worker had never said a word."""
    context.reception.since = datetime.now(UTC) - 2 * LONG_AGO
    past = datetime.now(UTC) - LONG_AGO
    await change(context, Attempt, attempt_id, created_at=past, submitted_at=past, heartbeat_at=None)


def leave(context: Context, attempt: Attempt, content: Any) -> Path:
    """What the driver of an attempt left in the storage."""
    path = Path(artefacts.folder(context.settings, attempt.submission_id), layout.undelivered(attempt.id))
    write_text(path, content if isinstance(content, str) else json.dumps(content))
    return path


def undelivered(state: str, error: str | None = None) -> dict[str, Any]:
    why = "ConnectError: [Errno 111] Connection refused"
    return {"outcome": {"state": state, "error": error}, "service": ADDRESS, "why": why}


async def test_nodes_without_the_workers_are_told_at_the_first_attempt(context: Context, ray: RayStandIn) -> None:
    missing = "ModuleNotFoundError: No module named 'workers'"
    experiment_id = await queue(context, sweep(2, retries=2))
    async with dispatching(context):
        await submitted(context, experiment_id)
        ray.only_job.exit_code = 78
        ray.end(
            ray.only_job, "FAILED", "Job entrypoint command failed\nModuleNotFoundError: No module named 'workers'\n"
        )
        experiment = await ended(context, experiment_id)
    assert experiment.state == "failed"
    told = f"the cluster's nodes cannot run workers ({missing}): install adadim[workers]=="
    assert str(experiment.state_reason).startswith(told)
    assert [attempt.state for attempt in await attempts_of(context, experiment_id)] == ["failed"]


@pytest.mark.parametrize("state", ["succeeded", "interrupted", "failed"])
async def test_workers_that_cannot_reach_the_service_are_told_with_the_address(
    context: Context, ray: RayStandIn, state: str
) -> None:
    experiment_id = await queue(context, sweep(2, retries=2))
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        leave(context, attempt, undelivered(state, "every trial failed" if state == "failed" else None))
        ray.end(ray.only_job, "SUCCEEDED" if state == "succeeded" else "FAILED")
        await never_heard(context, attempt.id)
        experiment = await ended(context, experiment_id)
    reason = str(experiment.state_reason)
    assert experiment.state == "failed"
    assert reason.startswith(f"the workers could not reach this service at {ADDRESS}: ConnectError: ")
    assert ("ADADIM_PUBLIC_URL" in reason) == (state != "failed")
    assert (f"`adadim retry {experiment_id}`" in reason) == (state == "succeeded")
    assert ("The run itself failed: every trial failed" in reason) == (state == "failed")
    assert len(await attempts_of(context, experiment_id)) == 1


async def test_an_outcome_that_did_not_arrive_is_taken_from_the_storage(context: Context, ray: RayStandIn) -> None:
    """Of a worker that had reached the service before, and not at its end."""
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        for number, state in ((1, "succeeded"), (2, "interrupted"), (3, "failed")):
            attempt = await submitted(context, experiment_id, number)
            job = ray.job(attempt.submission_id)
            await Worker.of(context, job).report(trials=[{"number": 0, "state": "running"}])
            leave(context, attempt, undelivered(state, "every trial failed" if state == "failed" else None))
            ray.end(job, "FAILED")
            await fall_silent(context, attempt.id)
        experiment = await ended(context, experiment_id)
    assert (experiment.state, experiment.state_reason) == ("failed", "every trial failed")
    assert [a.state for a in await attempts_of(context, experiment_id)] == ["interrupted", "interrupted", "failed"]


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[" * 100_000, '{"outcome": {"state": "won"}, "service": "x", "why": "y"}', " " * 300_000],
    ids=["empty", "nothing in it", "deep", "no outcome", "large"],
)
async def test_what_is_no_outcome_is_not_taken_for_one(context: Context, ray: RayStandIn, content: str) -> None:
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        leave(context, attempt, content)
        ray.end(ray.only_job, "FAILED", "the node died")
        await never_heard(context, attempt.id)
        experiment = await ended(context, experiment_id)
    assert "the last: no word for" in str(experiment.state_reason)


async def test_a_link_in_its_place_is_not_followed(context: Context, ray: RayStandIn, tmp_path: Path) -> None:
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        path = leave(context, attempt, undelivered("failed", "forged"))
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
        looks = len(ray.requests)
        ray.end(ray.only_job, "FAILED", "the node died")
        await never_heard(context, attempt.id)
        experiment = await ended(context, experiment_id)
        await until(lambda: len(ray.requests) > looks)
    assert "forged" not in str(experiment.state_reason)
