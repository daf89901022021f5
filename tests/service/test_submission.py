"""Handing attempts to a Ray that delays, forgets and goes away: each exactly once."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dispatch_harness import (
    LONG_AGO,
    URL,
    attempts_of,
    change,
    dispatching,
    fall_silent,
    in_state,
    kill,
    submitted,
)
from service_harness import RAY_TOKEN, RayStandIn, Worker, last_attempt, load, parts, points, queue, sweep, until

from adadim_core.spec import plan_trials, validate_spec
from adadim_core.spec.packing import unpacked
from adadim_core.version import VERSION
from service.cluster.jobs import MAX_ENVIRONMENT, ClusterUnavailable, Job
from service.context import Context
from service.database.tables import Attempt, Experiment
from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import repository, service
from service.queue import repository as queue_rows

pytestmark = pytest.mark.usefixtures("quick_dispatch")


async def test_a_job_gets_the_spec_and_the_token_of_its_attempt(context: Context, ray: RayStandIn) -> None:
    spec = sweep(4)
    experiment_id = await queue(context, spec)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
    job = ray.only_job
    assert job.submission_id == attempt.submission_id
    assert job.entrypoint.endswith("; exec python -m workers env:ADADIM_SPEC")
    assert job.environment["ADADIM_VERSION"] == VERSION
    sent = validate_spec(json.loads(unpacked(job.environment["ADADIM_SPEC"])))
    assert sent == spec
    assert plan_trials(sent) == plan_trials(spec)
    assert job.environment["ADADIM_SERVICE_URL"] == URL
    assert job.environment["ADADIM_RUN_STORAGE"].endswith(attempt.submission_id.rpartition("-")[0])
    assert await Worker.of(context, job).report() == "continue"
    assert (await load(context, experiment_id)).state == "running"


async def test_a_submission_waits_for_no_poll(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "_POLL_S", 3600.0)
    async with dispatching(context):
        await asyncio.sleep(0.3)  # the first look is over; from now on only a notification wakes it
        experiment_id = await queue(context)
        await submitted(context, experiment_id)


async def test_two_dispatchers_keep_to_the_slots_and_submit_each_experiment_once(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    async with parts(database_url, tmp_path, ray, slots=3) as one, parts(database_url, tmp_path, ray, slots=3) as two:
        ids = [await queue(one, sweep(1)) for _ in range(12)]
        most = 0
        async with dispatching(one, two):
            finished: set[str] = set()
            while len(finished) < len(ids):
                jobs = await until(lambda: [j for j in list(ray.jobs.values()) if j.submission_id not in finished])
                job = jobs[0]
                async with one.database.transaction() as session:
                    most = max(most, await queue_rows.in_flight(session))
                await Worker.of(one, job).report(outcome={"state": "succeeded"})
                ray.end(job, "SUCCEEDED")
                finished.add(job.submission_id)
        assert most <= 3
        assert len(ray.jobs) == ray.submissions == 12
        assert {(await load(one, i)).state for i in ids} == {"succeeded"}
        assert {(await load(one, i)).attempt for i in ids} == {1}


async def test_a_submission_whose_answer_was_lost_is_adopted(context: Context, ray: RayStandIn) -> None:
    ray.lose_answers = 1
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
    assert ray.submissions == len(ray.jobs) == 1
    assert len(await attempts_of(context, experiment_id)) == 1


async def test_a_duplicate_submission_is_an_error_of_ray_and_not_a_second_job(
    context: Context, ray: RayStandIn
) -> None:
    await context.jobs.submit("job-1", "true", {})
    with pytest.raises(ClusterUnavailable, match="already exists"):
        await context.jobs.submit("job-1", "true", {})
    assert await context.jobs.find("job-2") is None
    assert not await context.jobs.stop("job-2")
    assert [piece async for piece in context.jobs.log("job-2")] == []


async def test_a_job_that_ray_refuses_is_told_as_the_reason_at_once(context: Context, ray: RayStandIn) -> None:
    ray.refuses = "ValueError: entrypoint is too long"
    experiment_id = await queue(context)
    async with dispatching(context):
        experiment = await until(in_state(context, experiment_id, "failed"))
    assert experiment.state_reason == "Ray refuses the job: ValueError: entrypoint is too long"
    assert ray.submissions == 1, "nothing is gained by asking again"
    (attempt,) = await attempts_of(context, experiment_id)
    assert (attempt.state, attempt.error) == ("failed", experiment.state_reason)


async def test_a_spec_of_any_text_reaches_ray_within_what_a_command_takes(context: Context, ray: RayStandIn) -> None:
    paths = ["/" + "".join(chr(0x4E00 + k) for k in range(n, n + 800)) for n in range(0, 20_000, 800)]
    search = {"trials": 1, "space": {"data.path": {"choice": paths}}}
    spec = validate_spec({"name": "test", "data": {"dataset": "image_folder", "path": "/x"}, "search": search})
    experiment_id = await queue(context, spec)
    async with dispatching(context):
        await submitted(context, experiment_id)
    sent = ray.only_job.environment
    assert len(json.dumps(json.dumps(sent))) < MAX_ENVIRONMENT
    assert validate_spec(json.loads(unpacked(sent["ADADIM_SPEC"]))) == spec


async def test_an_environment_that_no_command_takes_never_waits_at_ray(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "packed", lambda text: "龍" * 20_000)
    experiment_id = await queue(context)
    async with dispatching(context):
        experiment = await until(in_state(context, experiment_id, "failed"))
    assert "the job's environment has" in (experiment.state_reason or "")
    assert not ray.jobs


async def test_what_ray_answers_to_a_submission_is_told_while_it_is_tried_again(
    context: Context, ray: RayStandIn
) -> None:
    ray.broken = True
    experiment_id = await queue(context)
    async with dispatching(context):
        experiment = await until(lambda: _with_reason(context, experiment_id))
        assert experiment.state == "starting"
        ray.broken = False
        await submitted(context, experiment_id)
        assert (await load(context, experiment_id)).state_reason is None


async def test_a_job_submitted_by_a_dispatcher_that_died_right_after_is_adopted(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        async def never(*_: Any) -> None:
            await asyncio.Event().wait()

        patch.setattr(service, "mark_submitted", never)
        experiment_id = await queue(context)
        async with dispatching(context) as (dispatcher,):
            await until(lambda: ray.jobs)
            await kill(dispatcher)
    await change(context, Experiment, experiment_id, lock_expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with dispatching(context):
        await Worker.of(context, ray.only_job).report()
        await until(lambda: ray.requests.count(("GET", f"/api/jobs/{ray.only_job.submission_id}")) > 2)
    assert (await load(context, experiment_id)).state == "running"
    assert ray.submissions == 1


async def test_an_attempt_whose_dispatcher_died_before_submission_is_abandoned_and_costs_no_retry(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SUBMIT_GRACE", timedelta(seconds=60))
    experiment_id = await queue(context, sweep(1, retries=0))
    ray.gate.clear()
    async with dispatching(context) as (dispatcher,):
        await until(in_state(context, experiment_id, "starting"))
        await kill(dispatcher)
    ray.gate.set()
    first = await last_attempt(context, experiment_id)
    assert first is not None
    assert (await load(context, experiment_id)).lock_token is not None
    await change(context, Experiment, experiment_id, lock_expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with dispatching(context):
        # not at once: the dead dispatcher's submission may still be on its way
        await until(lambda: ray.requests.count(("GET", f"/api/jobs/{first.submission_id}")) > 5)
        experiment = await load(context, experiment_id)
        assert (experiment.state, experiment.attempt) == ("starting", 1)
        context.reception.since = datetime.now(UTC) - 2 * LONG_AGO
        await change(context, Attempt, first.id, created_at=datetime.now(UTC) - LONG_AGO)
        await submitted(context, experiment_id, 2)
    states = [(a.state, a.error) for a in await attempts_of(context, experiment_id)]
    assert states == [("interrupted", "never reached the cluster"), ("starting", None)]
    assert len(ray.jobs) == 1


async def test_a_job_that_was_seen_or_heard_of_was_submitted(context: Context, ray: RayStandIn) -> None:
    """Ray loses its jobs before the database knows that it had this one."""
    ids = [await queue(context, sweep(1, retries=0)) for _ in range(2)]
    async with dispatching(context):
        jobs = [(await submitted(context, i)).submission_id for i in ids]
    await Worker.of(context, ray.job(jobs[1])).report()
    ray.jobs.pop(jobs[1])
    for experiment_id in ids:
        await change(context, Attempt, experiment_id, submitted_at=None)
    async with dispatching(context):
        seen = await submitted(context, ids[0])
        assert seen.number == 1
        await change(context, Attempt, ids[1], heartbeat_at=datetime.now(UTC) - LONG_AGO)
        context.reception.since = datetime.now(UTC) - 2 * LONG_AGO
        experiment = await until(in_state(context, ids[1], "failed"))
    assert "Ray has lost its job" in experiment.state_reason


async def test_ray_may_be_away_for_a_while(context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    in_vain: Counter[str] = Counter()
    find = context.jobs.find

    async def watched(submission_id: str) -> Job | None:
        try:
            return await find(submission_id)
        except ClusterUnavailable:
            in_vain[submission_id] += 1
            raise

    monkeypatch.setattr(context.jobs, "find", watched)
    ids = [await queue(context) for _ in range(2)]
    async with dispatching(context):
        for experiment_id in ids:
            await submitted(context, experiment_id)
        attempts = [await last_attempt(context, experiment_id) for experiment_id in ids]
        workers = [Worker.of(context, ray.job(attempt.submission_id)) for attempt in attempts if attempt]
        for worker in workers:
            await worker.report()
        ray.go_away()
        late = await queue(context)
        for worker in workers:
            await fall_silent(context, worker.attempt_id)
        await until(in_state(context, late, "starting"))
        for attempt in attempts:  # looked at in vain, and still not given up
            assert attempt
            await until(lambda job=attempt.submission_id: in_vain[job] > 2)  # type: ignore[misc]
        await workers[0].report(series=[points(0, [1], [1.0])], outcome={"state": "succeeded"})
        await workers[1].report()
        ray.come_back()
        await submitted(context, late)
        await workers[1].report()
    assert [(await load(context, i)).state for i in ids] == ["succeeded", "running"]
    assert [len(await attempts_of(context, i)) for i in [*ids, late]] == [1, 1, 1]
    assert len(ray.jobs) == 3


@pytest.mark.parametrize("trouble", ["away", "broken", "wrong token"])
async def test_a_job_ray_does_not_take_in_time_is_tried_again_as_another_attempt(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(dispatcher_module, "_SUBMIT_FOR_S", 0.0)
    monkeypatch.setattr(service, "SUBMIT_GRACE", timedelta(0))
    if trouble == "away":
        ray.go_away()
    elif trouble == "broken":
        ray.broken = True
    else:
        await context.jobs.connect(ray.address, "wrong")
    experiment_id = await queue(context)
    async with dispatching(context):
        experiment = await until(lambda: _with_reason(context, experiment_id))
        assert experiment.state_reason.startswith("Ray has not taken its job yet")
        # Ray may have taken the job all the same: nothing else is started until it can be asked.
        assert [a.state for a in await attempts_of(context, experiment_id)] == ["starting"]
        if trouble == "away":
            ray.come_back()
        ray.broken = False
        await context.jobs.connect(ray.address, RAY_TOKEN)
        monkeypatch.setattr(dispatcher_module, "_SUBMIT_FOR_S", 60.0)
        await until(lambda: _second_attempt(context, experiment_id))
    first, _ = await attempts_of(context, experiment_id)
    assert first.state == "interrupted"


async def _second_attempt(context: Context, experiment_id: int) -> bool:
    return len(await attempts_of(context, experiment_id)) == 2


async def _with_reason(context: Context, experiment_id: int) -> Experiment | None:
    experiment = await load(context, experiment_id)
    return experiment if experiment.state_reason else None


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_an_outcome_that_comes_while_ray_is_asked_is_final(context: Context, ray: RayStandIn, state: str) -> None:
    """The look at Ray takes time, in which the worker may report that all is done: it must not run again."""
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
    # The dispatcher may have been stopped while it took a lease.
    await change(context, Experiment, experiment_id, due_at=datetime.now(UTC) - LONG_AGO, lock_expires_at=None)
    async with context.database.transaction() as session:
        ((_, lease),) = await repository.lease_due(session, 1)
    ray.gate.clear()
    asked = len(ray.arrived)
    look = asyncio.create_task(service.check(context, experiment_id, lease))
    await until(lambda: len(ray.arrived) > asked)
    await Worker.of(context, ray.only_job).report(outcome={"state": state})
    ray.gate.set()
    await look
    assert (await load(context, experiment_id)).state == state
