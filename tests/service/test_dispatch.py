"""The dispatcher: leases and slots in the database, attempts on a Ray that delays, forgets and goes away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from service_harness import RAY_TOKEN, RayStandIn, Worker, last_attempt, load, parts, points, queue, sweep, until
from sqlalchemy import select, text

from adadim_core.spec import plan_trials, validate_spec
from service.cluster.jobs import ClusterUnavailable
from service.context import Context
from service.database.engine import Database
from service.database.tables import Attempt, Event, Experiment, Trial
from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import repository, service
from service.dispatch.dispatcher import Dispatcher
from service.experiments import service as experiments
from service.problems import Problem

URL = "http://service:8080"
LONG_AGO = timedelta(days=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often, so that tests wait for what happens and not for intervals."""
    monkeypatch.setattr(dispatcher_module, "_POLL_S", 0.02)
    monkeypatch.setattr(dispatcher_module, "_CLOSE_AFTER", timedelta(0))
    monkeypatch.setattr(service, "CHECK_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(service, "_CANCEL_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(service, "_MAX_BACKOFF", timedelta(0))


@contextlib.asynccontextmanager
async def dispatching(*contexts: Context) -> AsyncIterator[list[Dispatcher]]:
    """One dispatcher for each context."""
    dispatchers = [Dispatcher(context, URL) for context in contexts]
    for dispatcher in dispatchers:
        dispatcher.start()
    try:
        yield dispatchers
    finally:
        for dispatcher in dispatchers:
            await dispatcher.stop()


async def kill(dispatcher: Dispatcher) -> None:
    """End it as SIGKILL does: nothing is given back."""
    with pytest.MonkeyPatch.context() as patch:

        async def nothing(*_: Any) -> None:
            pass

        patch.setattr(repository, "release", nothing)
        await dispatcher.stop()


async def change(context: Context, table: Any, row_id: int, **values: Any) -> None:
    async with context.database.transaction() as session:
        row = await session.get_one(table, row_id)
        for name, value in values.items():
            setattr(row, name, value)


async def fall_silent(context: Context, attempt_id: int) -> None:
    """As if nothing had been heard of an attempt for a day, nor could have been."""
    context.started_at = datetime.now(UTC) - 2 * LONG_AGO
    past = datetime.now(UTC) - LONG_AGO
    await change(context, Attempt, attempt_id, created_at=past, submitted_at=past, heartbeat_at=past)


def in_state(context: Context, experiment_id: int, *states: str) -> Callable[[], Any]:
    async def check() -> Experiment | None:
        experiment = await load(context, experiment_id)
        return experiment if experiment.state in states else None

    return check


async def ended(context: Context, experiment_id: int) -> Experiment:
    found: Experiment = await until(in_state(context, experiment_id, "succeeded", "failed", "cancelled"), "the end")
    return found


async def attempts_of(context: Context, experiment_id: int) -> list[Attempt]:
    async with context.database.transaction() as session:
        query = select(Attempt).where(Attempt.experiment_id == experiment_id).order_by(Attempt.number)
        return list((await session.scalars(query)).all())


async def submitted(context: Context, experiment_id: int, number: int = 1) -> Attempt:
    """The attempt with this number once Ray has its job and the database knows it."""

    async def check() -> Attempt | None:
        attempt = await last_attempt(context, experiment_id)
        return attempt if attempt and attempt.number == number and attempt.submitted_at else None

    found: Attempt = await until(check, f"attempt {number}")
    return found


# -- which rows, in which order -----------------------------------------------------------------------------------


async def test_due_experiments_in_flight_are_leased_longest_due_first(context: Context) -> None:
    now = datetime.now(UTC)
    ids = [await queue(context) for _ in range(7)]
    rows: list[dict[str, Any]] = [
        {"state": "running", "due_at": now - timedelta(seconds=10)},
        {"state": "running", "due_at": now - timedelta(seconds=30)},
        {"state": "cancelling", "due_at": now - timedelta(seconds=20)},
        {"state": "running", "due_at": now + timedelta(hours=1)},
        {"state": "queued", "due_at": now - timedelta(hours=1)},
        {"state": "succeeded", "due_at": now - timedelta(hours=1)},
        {"state": "running", "due_at": None},
    ]
    for experiment_id, row in zip(ids, rows, strict=True):
        await change(context, Experiment, experiment_id, **row)
    async with context.database.transaction() as session:
        assert {i for i, _ in await repository.lease_due(session, 2)} == {ids[1], ids[2]}
        assert {i for i, _ in await repository.lease_due(session, 9)} == {ids[0]}
        assert await repository.lease_due(session, 9) == []


async def test_queued_experiments_are_leased_oldest_first_for_the_free_slots(context: Context) -> None:
    ids = [await queue(context) for _ in range(6)]
    await change(context, Experiment, ids[0], state="running")
    await change(context, Experiment, ids[2], due_at=datetime.now(UTC) + timedelta(hours=1))
    async with context.database.transaction() as session:
        leased = await repository.lease_queued(session, 3)
        assert [row.id for row, _ in leased] == [ids[1], ids[3]]
        assert await repository.slots_in_use(session) == 1
        assert await repository.lease_queued(session, 1) == []


async def test_many_queued_experiments_do_not_fill_more_slots_than_there_are(context: Context) -> None:
    async with context.database.transaction() as session:
        await session.execute(
            text("""INSERT INTO experiments (name, owner, spec, spec_text, metric, mode, trial_count)
                    SELECT 'a', 'a', '{}', '', 'h_r', 'max', 1 FROM generate_series(1, 3000)""")
        )
    for plan in ("on", "off"):
        async with context.database.transaction() as session:
            await session.execute(text(f"SET LOCAL enable_hashjoin = {plan}"))
            await session.execute(text(f"SET LOCAL enable_sort = {plan}"))
            await session.execute(text(f"SET LOCAL enable_hashagg = {plan}"))
            await session.execute(text(f"SET LOCAL enable_material = {plan}"))
            assert len(await repository.lease_queued(session, 4)) == 4


async def test_a_leased_row_is_nobody_elses_until_its_lease_is_over(context: Context) -> None:
    experiment_id = await queue(context)
    await change(context, Experiment, experiment_id, state="running")
    async with context.database.transaction() as session:
        ((_, first),) = await repository.lease_due(session, 9)
    async with context.database.transaction() as session:
        assert await repository.lease_due(session, 9) == []
    await change(context, Experiment, experiment_id, lock_expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with context.database.transaction() as session:
        ((_, second),) = await repository.lease_due(session, 9)
        assert second != first
        assert not await repository.extend_lease(session, experiment_id, first)
        assert await repository.extend_lease(session, experiment_id, second)
        await repository.release(session, experiment_id, first)
    assert (await load(context, experiment_id)).lock_token == second


async def test_a_row_another_transaction_works_on_is_passed_over(context: Context) -> None:
    ids = [await queue(context) for _ in range(2)]
    for experiment_id in ids:
        await change(context, Experiment, experiment_id, state="running")
    async with context.database.transaction() as busy:
        await busy.get_one(Experiment, ids[0], with_for_update=True)
        async with asyncio.timeout(5), context.database.transaction() as session:
            assert [i for i, _ in await repository.lease_due(session, 9)] == [ids[1]]
    async with context.database.transaction() as session:  # and found the next time
        assert [i for i, _ in await repository.lease_due(session, 9)] == [ids[0]]


async def test_the_row_is_unlocked_after_success(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)

        async def unlocked() -> bool:
            return (await load(context, experiment_id)).lock_token is None

        await until(unlocked)
    assert (await load(context, experiment_id)).state == "starting"


@pytest.mark.parametrize("step", ["check", "mark_submitted", "give_up_submitting"])
async def test_a_stale_lease_changes_nothing(context: Context, ray: RayStandIn, step: str) -> None:
    experiment_id = await queue(context)
    async with context.database.transaction() as session:
        ((row, stale),) = await repository.lease_queued(session, 1)
        attempt, _ = await service.start_attempt(session, row)
    await fall_silent(context, attempt.id)
    await change(context, Attempt, attempt.id, submitted_at=None)
    await change(context, Experiment, experiment_id, lock_token=uuid4())
    before = vars(await load(context, experiment_id)) | vars(await last_attempt(context, experiment_id))
    arguments: dict[str, tuple[Any, ...]] = {
        "check": (experiment_id, stale),
        "mark_submitted": (experiment_id, stale, attempt.id),
        "give_up_submitting": (experiment_id, stale, "why"),
    }
    with pytest.raises(service.LeaseLost):
        await getattr(service, step)(context, *arguments[step])
    after = vars(await load(context, experiment_id)) | vars(await last_attempt(context, experiment_id))
    drop = ("_sa_instance_state",)
    assert {k: v for k, v in after.items() if k not in drop} == {k: v for k, v in before.items() if k not in drop}


async def test_work_that_takes_longer_than_its_lease_keeps_it(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "LEASE", timedelta(seconds=0.3))
    ray.gate.clear()  # Ray takes its time
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(in_state(context, experiment_id, "starting"))
        first = await load(context, experiment_id)

        async def extended() -> bool:
            now = await load(context, experiment_id)
            assert now.lock_token == first.lock_token
            assert first.lock_expires_at is not None
            assert now.lock_expires_at is not None
            return now.lock_expires_at - first.lock_expires_at > 2 * timedelta(seconds=0.3)

        await until(extended)
        ray.gate.set()
        await submitted(context, experiment_id)
    assert len(ray.jobs) == 1


async def test_a_stopped_dispatcher_gives_its_leases_back(context: Context, ray: RayStandIn) -> None:
    ray.gate.clear()
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(in_state(context, experiment_id, "starting"))
    assert (await load(context, experiment_id)).lock_token is None


# -- submission ---------------------------------------------------------------------------------------------------


async def test_a_job_gets_the_spec_and_the_token_of_its_attempt(context: Context, ray: RayStandIn) -> None:
    spec = sweep(4)
    experiment_id = await queue(context, spec)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
    job = ray.only_job
    assert job.submission_id == attempt.submission_id
    assert job.entrypoint == "python -m workers env:ADADIM_SPEC"
    sent = validate_spec(json.loads(job.environment["ADADIM_SPEC"]))
    assert sent == spec
    assert plan_trials(sent.search) == plan_trials(spec.search)
    assert job.environment["ADADIM_SERVICE_URL"] == URL
    assert job.environment["ADADIM_STORAGE"].endswith(attempt.submission_id.rpartition("-")[0])
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
                    most = max(most, await repository.slots_in_use(session))
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
    context: Context, ray: RayStandIn
) -> None:
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
        await until(lambda: ("GET", f"/api/jobs/{first.submission_id}") in ray.requests[1:])
        assert (await load(context, experiment_id)).attempt == 1
        context.started_at = datetime.now(UTC) - 2 * LONG_AGO
        await change(context, Attempt, first.id, created_at=datetime.now(UTC) - LONG_AGO)
        await submitted(context, experiment_id, 2)
    states = [(a.state, a.error) for a in await attempts_of(context, experiment_id)]
    assert states == [("interrupted", "never reached the cluster"), ("starting", None)]
    assert len(ray.jobs) == 1


async def test_ray_may_be_away_for_a_while(context: Context, ray: RayStandIn, caplog: pytest.LogCaptureFixture) -> None:
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
        for experiment_id in ids:  # looked at in vain, and still not given up
            await until(lambda sign=f"experiment {experiment_id}: no answer": caplog.text.count(sign) > 2)  # type: ignore[misc]
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
    monkeypatch.setattr(service, "_SUBMIT_GRACE", timedelta(0))
    if trouble == "away":
        ray.go_away()
    elif trouble == "broken":
        ray.broken = True
    else:
        await context.jobs.connect(ray.address, "wrong")
    experiment_id = await queue(context)
    async with dispatching(context):
        experiment = await until(lambda: _with_reason(context, experiment_id))
        assert experiment.state_reason.startswith("no answer to the submission")
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
    await change(context, Experiment, experiment_id, due_at=datetime.now(UTC) - LONG_AGO)
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


# -- lost, interrupted, ended -------------------------------------------------------------------------------------


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


# -- cancel -------------------------------------------------------------------------------------------------------


async def cancel(context: Context, experiment_id: int) -> None:
    async with context.database.transaction() as session:
        await experiments.cancel(session, experiment_id, by="someone")


async def test_cancel_while_queued_starts_nothing(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    await cancel(context, experiment_id)
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
        await cancel(context, experiment_id)
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
        await cancel(context, experiment_id)
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
        await cancel(context, experiment_id)
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
        await cancel(context, experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        assert (await ended(context, experiment_id)).state == "succeeded"


# -- afterwards ---------------------------------------------------------------------------------------------------


async def closed(context: Context, experiment_id: int) -> Attempt:
    async def check() -> Attempt | None:
        attempt = await last_attempt(context, experiment_id)
        return attempt if attempt is not None and attempt.closed_at is not None else None

    found: Attempt = await until(check, "the attempt to be closed")
    return found


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


async def test_the_dispatcher_survives_the_database_going_away_and_any_other_surprise(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncpg

    errors: Iterator[Exception] = iter(
        [
            asyncpg.CannotConnectNowError("the database system is starting up"),
            ConnectionRefusedError(),
            asyncpg.InterfaceError("connection is closed"),
            KeyError("surprise"),
        ]
    )
    real = repository.lease_due

    async def failing(session: Any, limit: int) -> Any:
        for error in errors:
            raise error
        return await real(session, limit)

    monkeypatch.setattr(repository, "lease_due", failing)
    async with dispatching(context):
        await submitted(context, await queue(context))
    assert next(errors, None) is None


async def test_connections_that_are_killed_delay_nothing_but_the_next_try(
    context: Context, ray: RayStandIn, postgres: str
) -> None:
    ids = [await queue(context) for _ in range(3)]
    async with dispatching(context):
        for _ in range(5):
            async with Database(postgres).connect() as admin:
                await admin.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                    {"name": context.database.url.database},
                )
            await asyncio.sleep(0.02)
        for experiment_id in ids:
            await until(lambda: _submitted_or_expire(context, experiment_id), seconds=15)  # noqa: B023


async def _submitted_or_expire(context: Context, experiment_id: int) -> bool:
    """A lease that could not be given back ends by itself; here it ends at once."""
    try:
        await change(context, Experiment, experiment_id, lock_expires_at=datetime.now(UTC) - timedelta(seconds=1))
        attempt = await last_attempt(context, experiment_id)
    except Exception:
        return False
    return attempt is not None


async def test_a_report_and_the_dispatcher_never_deadlock(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context, sweep(5))
    async with dispatching(context):
        await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await asyncio.gather(
            *(
                worker.report(
                    trials=[{"number": n % 5, "state": "running", "epoch": n}],
                    series=[points(n % 5, [n], [float(n)]), points((n + 1) % 5, [n], [float(n)], "loss")],
                )
                for n in range(30)
            )
        )
        await worker.report(outcome={"state": "succeeded"})
    assert (await load(context, experiment_id)).state == "succeeded"


async def test_stopping_the_local_cluster_queues_what_ran_on_it(context: Context, ray: RayStandIn) -> None:
    ids = [await queue(context, sweep(1, retries=0)) for _ in range(3)]
    async with dispatching(context):
        for experiment_id in ids:
            await submitted(context, experiment_id)
    await cancel(context, ids[1])
    await service.interrupt_in_flight(context)
    assert [(await load(context, i)).state for i in ids] == ["queued", "cancelled", "queued"]
    assert {a.state for i in ids for a in await attempts_of(context, i)} == {"interrupted"}
