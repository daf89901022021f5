"""Leases: which rows, in which order, whose they are, and what a stale one may not do."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dispatch_harness import (
    LONG_AGO,
    change,
    dispatching,
    fall_silent,
    in_state,
    submitted,
)
from service_harness import RayStandIn, last_attempt, load, queue, until

from service.context import Context
from service.database.tables import Attempt, Experiment
from service.dispatch import dispatcher, repository, service
from service.queue import service as queue_service

pytestmark = pytest.mark.usefixtures("quick_dispatch")


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
        async with asyncio.timeout(60), context.database.transaction() as session:
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


@pytest.mark.parametrize("step", ["check", "mark_submitted", "tell_of_submission"])
async def test_a_stale_lease_changes_nothing(context: Context, ray: RayStandIn, step: str) -> None:
    experiment_id = await queue(context)
    async with context.database.transaction() as session:
        stale = uuid4()
        (row,) = await queue_service.lease(session, context.settings, stale, LONG_AGO)
        attempt, _ = await service.start_attempt(session, row)
    await fall_silent(context, attempt.id)
    await change(context, Attempt, attempt.id, submitted_at=None)
    await change(context, Experiment, experiment_id, lock_token=uuid4())
    before = vars(await load(context, experiment_id)) | vars(await last_attempt(context, experiment_id))
    arguments: dict[str, tuple[Any, ...]] = {
        "check": (experiment_id, stale),
        "mark_submitted": (experiment_id, stale, attempt.id),
        "tell_of_submission": (experiment_id, stale, "why"),
    }
    with pytest.raises(service.LeaseLost):
        await getattr(service, step)(context, *arguments[step])
    after = vars(await load(context, experiment_id)) | vars(await last_attempt(context, experiment_id))
    drop = ("_sa_instance_state",)
    assert {k: v for k, v in after.items() if k not in drop} == {k: v for k, v in before.items() if k not in drop}


async def test_a_lease_is_extended_for_as_long_as_its_work_takes(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repository.LEASE.total_seconds() > 2 * dispatcher._BEAT_S  # one heartbeat may be missed
    monkeypatch.setattr(dispatcher, "_BEAT_S", 0.1)
    ray.gate.clear()  # Ray takes its time
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(in_state(context, experiment_id, "starting"))
        before = await load(context, experiment_id)

        async def extended() -> bool:
            now = await load(context, experiment_id)
            assert now.lock_token == before.lock_token
            assert before.lock_expires_at is not None
            assert now.lock_expires_at is not None
            return now.lock_expires_at > before.lock_expires_at

        for _ in range(3):
            await until(extended)
            before = await load(context, experiment_id)
        ray.gate.set()
        await submitted(context, experiment_id)
    assert len(ray.jobs) == 1


async def test_a_stopped_dispatcher_gives_its_leases_back(context: Context, ray: RayStandIn) -> None:
    ray.gate.clear()
    experiment_id = await queue(context)
    async with dispatching(context):
        await until(lambda: any(path.startswith("/api/jobs/adadim-") for _, path in ray.arrived), "the submission")
    assert (await load(context, experiment_id)).lock_token is None
