"""What remains of attempts on the cluster: jobs seen off, logs kept, strangers stopped."""

from pathlib import Path

import pytest
from dispatch_harness import (
    act,
    attempts_of,
    closed,
    dispatching,
    submitted,
)
from service_harness import RayStandIn, Worker, load, parts, queue, sweep, until
from sqlalchemy import select

from service.context import Context
from service.database.tables import Installation
from service.dispatch import closing

pytestmark = pytest.mark.usefixtures("quick_dispatch")


async def test_a_job_that_lingers_after_the_outcome_is_stopped_and_its_log_kept(
    context: Context, ray: RayStandIn
) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        ray.only_job.log = "first\nnul \0\nlast\n"
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        attempt = await closed(context, experiment_id)
    assert ray.only_job.stops >= 1
    assert attempt.log == "first\nnul \nlast\n"
    assert (await load(context, experiment_id)).state == "succeeded"


async def test_of_a_long_log_the_end_is_kept(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "MAX_LOG_CHARS", 10)
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        ray.only_job.log = "x" * 100 + "the end"
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        assert (await closed(context, experiment_id)).log == "xxxthe end"


async def test_a_job_ray_has_forgotten_is_closed_without_a_log(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        ray.jobs.clear()
        await worker.report(outcome={"state": "succeeded"})
        assert (await closed(context, experiment_id)).log is None


async def test_jobs_that_never_end_keep_neither_new_ones_nor_others_waiting(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    ray.stubborn = True
    async with parts(database_url, tmp_path, ray, slots=20) as context, dispatching(context):
        for _ in range(9):  # more than are looked at together
            experiment_id = await queue(context)
            attempt = await submitted(context, experiment_id)
            await Worker.of(context, ray.job(attempt.submission_id)).report(outcome={"state": "succeeded"})
        last = await queue(context)
        attempt = await submitted(context, last)
        ray.end(ray.job(attempt.submission_id), "SUCCEEDED")
        await Worker.of(context, ray.job(attempt.submission_id)).report(outcome={"state": "succeeded"})
        await closed(context, last)


async def test_stopping_the_local_cluster_queues_what_ran_on_it(context: Context, ray: RayStandIn) -> None:
    ids = [await queue(context, sweep(1, retries=0)) for _ in range(3)]
    async with dispatching(context):
        for experiment_id in ids:
            await submitted(context, experiment_id)
    await act(context, "cancel", ids[1])
    await closing.interrupt_in_flight(context)
    assert [(await load(context, i)).state for i in ids] == ["queued", "cancelled", "queued"]
    assert {a.state for i in ids for a in await attempts_of(context, i)} == {"interrupted"}


async def test_jobs_nobody_knows_are_stopped_and_those_of_others_left_alone(context: Context, ray: RayStandIn) -> None:
    async with context.database.transaction() as session:
        key = (await session.scalars(select(Installation.key))).one()
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
    strangers = [f"adadim-{key}-999-1", "adadim-0000beef-1-1", "someone-elses"]
    for name in strangers:
        await context.jobs.submit(name, "true", {})
    async with dispatching(context):
        await until(lambda: ray.job(strangers[0]).stops)
        looks = ray.requests.count(("GET", "/api/jobs/"))
        await until(lambda: ray.requests.count(("GET", "/api/jobs/")) > looks + 2)
    assert [ray.job(name).status for name in strangers] == ["STOPPED", "RUNNING", "RUNNING"]
    assert ray.job(attempt.submission_id).status == "RUNNING"


async def test_a_job_that_comes_back_after_it_was_seen_off_is_stopped(context: Context, ray: RayStandIn) -> None:
    """As a submission does that was on its way when its dispatcher died."""
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        await closed(context, experiment_id)
        ray.only_job.status = "RUNNING"
        stops = ray.only_job.stops
        await until(lambda: ray.only_job.stops > stops)
