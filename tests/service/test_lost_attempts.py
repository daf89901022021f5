"""Attempts that are lost, interrupted or end: what follows them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dispatch_harness import (
    LONG_AGO,
    attempts_of,
    dispatching,
    ended,
    fall_silent,
    submitted,
)
from service_harness import RayStandIn, Worker, load, parts, queue, sweep, until
from sqlalchemy import select

from service.context import Context
from service.database.tables import Event, Trial
from service.dispatch import service
from service.problems import Problem

pytestmark = pytest.mark.usefixtures("quick_dispatch")


async def test_lost_attempts_are_followed_by_others_up_to_the_retries(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context, sweep(2, retries=2))
    async with dispatching(context):
        for number in (1, 2, 3):
            attempt = await submitted(context, experiment_id, number)
            worker = Worker.of(context, ray.job(attempt.submission_id))
            await worker.report(trials=[{"number": 0, "state": "running"}])
            ray.end(ray.job(attempt.submission_id), "FAILED", "the node died")
            await fall_silent(context, attempt.id)
        experiment = await ended(context, experiment_id)
    assert experiment.state == "failed"
    assert experiment.state_reason is not None
    assert experiment.state_reason.startswith("3 attempts lost, retries: 2; the last: no word for 86400 s")
    assert "Ray says FAILED: the node died" in experiment.state_reason
    assert [a.state for a in await attempts_of(context, experiment_id)] == ["lost"] * 3
    async with context.database.transaction() as session:
        events = (await session.scalars(select(Event).where(Event.kind == "experiment").order_by(Event.seq))).all()
        trials = (await session.scalars(select(Trial.state))).all()
    again = ["starting", "running", "queued"]
    assert [event.payload["state"] for event in events] == ["queued", *again, *again, "starting", "running", "failed"]
    assert set(trials) == {"stopped"}


async def test_a_job_ray_has_forgotten_is_lost_too(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
        ray.jobs.clear()
        await fall_silent(context, attempt.id)
        await submitted(context, experiment_id, 2)
    first = (await attempts_of(context, experiment_id))[0]
    assert first.state == "lost"
    assert "Ray has lost its job" in str(first.error)


async def test_a_worker_that_reports_is_not_lost_whatever_ray_says(context: Context, ray: RayStandIn) -> None:
    """Ray has reported FAILED after a head replacement though the job went on (ray#65608)."""
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        ray.end(ray.only_job, "FAILED")
        for _ in range(5):
            await worker.report()
            looks = len(ray.requests)
            await until(lambda before=looks: len(ray.requests) > before)  # type: ignore[misc]
        await worker.report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"
    assert len(await attempts_of(context, experiment_id)) == 1


async def test_a_clock_that_is_wrong_loses_nothing(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=1)

    experiment_id = await queue(context)
    context.started_at = datetime.now(UTC) - LONG_AGO
    monkeypatch.setattr(service, "datetime", Ahead)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
        ray.end(ray.only_job, "FAILED")
        looks = len(ray.requests)
        await until(lambda: len(ray.requests) > looks + 4)
    assert (await load(context, experiment_id)).state == "running"


async def test_a_silent_worker_whose_job_runs_is_stopped_before_the_next_attempt_starts(
    context: Context, ray: RayStandIn
) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await fall_silent(context, attempt.id)
        await until(lambda: ray.only_job.stops > 1)
        assert (await load(context, experiment_id)).attempt == 1  # two must never run at once
        ray.end(ray.only_job, "STOPPED")
        await submitted(context, experiment_id, 2)


async def test_a_job_that_waits_for_ray_is_not_silent(context: Context, ray: RayStandIn) -> None:
    ray.first_status = "PENDING"
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await fall_silent(context, attempt.id)
        looks = len(ray.requests)
        await until(lambda: len(ray.requests) > looks + 3)
    assert ray.only_job.stops == 0
    assert (await load(context, experiment_id)).attempt == 1


async def test_an_interrupted_attempt_is_followed_by_another_and_costs_no_retry(
    context: Context, ray: RayStandIn
) -> None:
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        for number in (1, 2, 3):
            attempt = await submitted(context, experiment_id, number)
            worker = Worker.of(context, ray.job(attempt.submission_id))
            await worker.report(trials=[{"number": 0, "state": "running"}])
            await worker.report(outcome={"state": "interrupted", "error": "the node goes away"})
            with pytest.raises(Problem, match="Superseded"):
                await worker.report()
        attempt = await submitted(context, experiment_id, 4)
        await Worker.of(context, ray.job(attempt.submission_id)).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"


async def test_an_experiment_that_is_over_frees_its_slot_for_the_next(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    async with parts(database_url, tmp_path, ray, slots=1) as context:
        first, second = await queue(context), await queue(context)
        async with dispatching(context):
            await submitted(context, first)
            await Worker.of(context, ray.only_job).report(outcome={"state": "failed", "error": "bad data"})
            await submitted(context, second)
        assert ((await load(context, first)).state, (await load(context, first)).state_reason) == ("failed", "bad data")
