"""Cancel, pause and delete at every moment: what they do to the job."""

from datetime import timedelta

import pytest
from dispatch_harness import (
    act,
    attempts_of,
    dispatching,
    ended,
    in_state,
    submitted,
)
from service_harness import RayStandIn, Worker, queue, until
from sqlalchemy import select

from service.context import Context
from service.database.tables import Trial
from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import service

pytestmark = pytest.mark.usefixtures("quick_dispatch")


async def test_cancel_while_queued_starts_nothing(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    await act(context, "cancel", experiment_id)
    async with dispatching(context):
        experiment = await ended(context, experiment_id)
    assert (experiment.state, experiment.state_reason) == ("cancelled", "cancelled by someone")
    assert experiment.ended_at is not None
    assert ray.submissions == 0


async def test_cancel_while_the_job_is_handed_over_stops_it(context: Context, ray: RayStandIn) -> None:
    ray.gate.clear()
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(in_state(context, experiment_id, "starting"))
        await act(context, "cancel", experiment_id)
        ray.gate.set()
        assert (await ended(context, experiment_id)).state == "cancelled"
    assert [job.status for job in ray.jobs.values()] in ([], ["STOPPED"])


async def test_cancel_while_ray_takes_nothing_starts_no_other_attempt(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "_SUBMIT_FOR_S", 0.0)
    monkeypatch.setattr(service, "SILENCE", timedelta(0))
    ray.gate.clear()
    ray.broken = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(in_state(context, experiment_id, "starting"))
        await act(context, "cancel", experiment_id)
        ray.gate.set()
        assert (await ended(context, experiment_id)).state == "cancelled"
    assert len(await attempts_of(context, experiment_id)) == 1


async def test_cancel_while_running_tells_the_worker_and_stops_the_job(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await worker.report(trials=[{"number": 0, "state": "running"}])
        await act(context, "cancel", experiment_id)
        assert await worker.report() == "stop"
        await until(lambda: ray.only_job.stops)
        await worker.report(outcome={"state": "interrupted"})
        ray.end(ray.only_job, "STOPPED")
        assert (await ended(context, experiment_id)).state == "cancelled"
    async with context.database.transaction() as session:
        assert set((await session.scalars(select(Trial.state))).all()) == {"stopped"}


async def test_an_outcome_that_comes_before_the_cancel_takes_effect_counts(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await act(context, "cancel", experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"
