"""Cancel, pause and delete at every moment: what they do to the job."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dispatch_harness import act, attempts_of, change, dispatching, ended, fall_silent, in_state, kill, submitted
from service_harness import RayStandIn, Worker, load, points, queue, sweep, until
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context
from service.database.tables import Attempt, Event, Experiment, Segment, Transition, Trial
from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import service
from service.errors import ServiceError
from service.experiments import artefacts
from service.experiments import repository as experiments

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


@pytest.mark.parametrize("action", ["cancel", "pause", "delete"])
async def test_a_job_that_runs_for_ever_keeps_no_user_waiting(context: Context, ray: RayStandIn, action: str) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
        await act(context, action, experiment_id)
        await until(lambda: ray.only_job.stops)
        await fall_silent(context, attempt.id)
        if action == "delete":
            await gone(context, experiment_id)
        else:
            await until(in_state(context, experiment_id, "cancelled", "paused"))
        stops = ray.only_job.stops
        await until(lambda: ray.only_job.stops > stops)


async def test_an_outcome_that_comes_before_the_cancel_takes_effect_counts(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await act(context, "cancel", experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"


# -- pause --------------------------------------------------------------------------------------------------------


async def test_pause_stops_the_job_and_resume_goes_on_with_the_next_attempt(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await worker.report(trials=[{"number": 0, "state": "running"}])
        ray.stubborn = True
        assert (await act(context, "pause", experiment_id)).experiment.state == "pausing"
        assert await worker.report() == "stop"
        await until(lambda: ray.only_job.stops)
        await worker.report(outcome={"state": "interrupted"})
        assert (await load(context, experiment_id)).state == "pausing"  # the cluster is not free yet
        ray.end(ray.only_job, "STOPPED")
        await until(in_state(context, experiment_id, "paused"))
        await act(context, "resume", experiment_id)
        attempt = await submitted(context, experiment_id, 2)
        await Worker.of(context, ray.job(attempt.submission_id)).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"


async def test_what_is_resumed_before_it_has_stopped_runs_again(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context, sweep(1, retries=0))
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await worker.report()
        await act(context, "pause", experiment_id)
        await until(lambda: ray.only_job.stops)
        await act(context, "resume", experiment_id)
        assert await worker.report() == "continue"
        await worker.report(outcome={"state": "interrupted"})  # but it had heard of the pause
        ray.end(ray.only_job, "STOPPED")
        await submitted(context, experiment_id, 2)


async def test_what_is_paused_and_resumed_before_its_driver_reports_is_not_lost(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SILENCE_AFTER_JOB", timedelta(0))
    monkeypatch.setattr(service, "_STOP_INTERVAL", timedelta(hours=1))  # it is resumed before anybody looks again
    ray.stubborn = True
    experiment_id = await queue(context, sweep(1, retries=0))
    async with dispatching(context):
        await submitted(context, experiment_id)
        await act(context, "pause", experiment_id)
        await until(lambda: ray.only_job.stops)
        await act(context, "resume", experiment_id)
        ray.end(ray.only_job, "STOPPED")
        await submitted(context, experiment_id, 2)
    assert [a.state for a in await attempts_of(context, experiment_id)] == ["interrupted", "starting"]


async def test_an_outcome_that_comes_while_it_pauses_counts(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await act(context, "pause", experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"


async def test_retry_waits_for_the_job_of_the_attempt_before(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context, sweep(1, retries=0))
    async with dispatching(context):
        await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "failed", "error": "out of memory"})
        await act(context, "retry", experiment_id)
        await until(lambda: ray.only_job.stops > 2)
        assert (await load(context, experiment_id)).attempt == 1
        ray.end(ray.only_job, "STOPPED")
        await submitted(context, experiment_id, 2)


# -- delete -------------------------------------------------------------------------------------------------------


def artefacts_of(context: Context, job: str) -> Path:
    folder = Path(artefacts.folder(context.settings, job))
    (folder / "trials" / "0000").mkdir(parents=True)
    (folder / "trials" / "0000" / "checkpoint.pt").write_text("weights")
    return folder


async def gone(context: Context, experiment_id: int) -> None:
    async def check() -> bool:
        async with context.database.transaction() as session:
            return await session.get(Experiment, experiment_id) is None

    await until(check, "the experiment to be gone")


async def test_delete_stops_the_job_first_and_leaves_nothing(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    other = await queue(context)
    async with dispatching(context):
        attempt, other_attempt = await submitted(context, experiment_id), await submitted(context, other)
        worker = Worker.of(context, ray.job(attempt.submission_id))
        neighbour_worker = Worker.of(context, ray.job(other_attempt.submission_id))
        for reporter in (worker, neighbour_worker):
            await reporter.report(series=[points(0, [1, 2], [1.0, 2.0])])
        folder, neighbour = artefacts_of(context, attempt.submission_id), artefacts_of(context, f"adadim-key-{other}")
        ray.stubborn = True
        await act(context, "delete", experiment_id)
        await until(lambda: ray.job(attempt.submission_id).stops)
        assert folder.exists()  # its worker may still write there
        ray.end(ray.job(attempt.submission_id), "STOPPED")
        await gone(context, experiment_id)
    assert not folder.exists()
    assert neighbour.exists()
    async with context.database.transaction() as session:
        for table in (Attempt, Trial, Event, Segment, Transition):
            assert set(await session.scalars(select(table.experiment_id))) == {other}
    with pytest.raises(ServiceError, match="Not the token"):  # a worker ends at that as well
        await worker.report()


async def test_points_are_deleted_before_the_experiment_is_locked_for_it(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id = await queue(context)
    left: list[int] = []
    original = experiments.remove

    async def remove(session: AsyncSession, number: int, *, by: str) -> None:
        left.append((await session.scalars(select(func.count()).select_from(Segment))).one())
        await original(session, number, by=by)

    monkeypatch.setattr(experiments, "remove", remove)
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await worker.report(series=[points(0, [1, 2], [1.0, 2.0])])
        await act(context, "delete", experiment_id)
        await gone(context, experiment_id)
    assert left == [0]


async def test_an_outcome_does_not_save_what_is_to_be_deleted(context: Context, ray: RayStandIn) -> None:
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await act(context, "delete", experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        ray.end(ray.only_job, "SUCCEEDED")
        await gone(context, experiment_id)


async def test_a_delete_that_broke_off_is_completed(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher dies with half the folder removed; then the folder cannot be removed; then it can."""
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
    folder = artefacts_of(context, attempt.submission_id)
    began = threading.Event()

    def half(location: str) -> None:
        (Path(location) / "trials" / "0000" / "checkpoint.pt").unlink()
        began.set()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(service, "remove_run", half)
        await act(context, "delete", experiment_id)
        async with dispatching(context) as (dispatcher,):
            assert await asyncio.to_thread(began.wait, 60)
            await kill(dispatcher)
    assert (await load(context, experiment_id)).state == "deleting"
    assert folder.exists()
    await change(context, Experiment, experiment_id, lock_expires_at=None, due_at=datetime.now(UTC))
    async with dispatching(context):
        await gone(context, experiment_id)
    assert not folder.exists()


async def test_a_folder_that_cannot_be_removed_is_said(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(location: str) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(service, "remove_run", refuse)
    experiment_id = await queue(context)
    await act(context, "delete", experiment_id)
    async with dispatching(context):

        async def said() -> bool:
            return "Permission denied" in str((await load(context, experiment_id)).state_reason)

        await until(said)
    assert (await load(context, experiment_id)).state == "deleting"
