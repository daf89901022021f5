"""The queue: priority, slots, the owner's limit, fair shares, and that nobody waits for ever."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dispatch_harness import act, change, closed, dispatching, submitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_harness import RayStandIn, Running, Worker, add_token, client, load, parts, queue, until
from sqlalchemy import text, update

from service.context import Context
from service.database.tables import Attempt, Experiment, QueueTurn
from service.dispatch import service as dispatch
from service.experiments import service as experiments
from service.queue import repository, service
from service.queue.schemas import WaitingRead

MINUTE = timedelta(minutes=1)


async def enqueue(context: Context, owner: str, priority: int = 0, **values: Any) -> int:
    async with context.database.transaction() as session:
        row = Experiment(
            name="a", owner=owner, priority=priority, spec={"retries": 0}, spec_text="", metric="h_r", mode="max",
            trial_count=1, **values,
        )  # fmt: skip
        session.add(row)
        await session.flush()
        return row.id


async def run(context: Context, owner: str) -> int:
    """An experiment of this owner with an attempt in flight."""
    experiment_id = await enqueue(context, owner, state="running", attempt=1)
    async with context.database.transaction() as session:
        session.add(Attempt(experiment_id=experiment_id, number=1, submission_id=str(uuid4()), token_hash=b""))
    return experiment_id


async def next_ids(context: Context, free: int, owner_slots: int | None = None) -> list[int]:
    async with context.database.transaction() as session:
        return list(await repository.next_ids(session, free, owner_slots))


async def start_next(context: Context) -> Experiment:
    """Start the one experiment whose turn it is, as the dispatcher does, for however many slots."""
    async with context.database.transaction() as session:
        ids = await repository.next_ids(session, 1, None)
        (row,) = await repository.lease_next(session, ids, uuid4(), MINUTE)
        await dispatch.start_attempt(session, row)
    return row


async def end(context: Context, experiment_id: int) -> None:
    async with context.database.transaction() as session:
        await session.execute(
            text("UPDATE attempts SET ended_at = now(), closed_at = now() WHERE experiment_id = :id"),
            {"id": experiment_id},
        )
        await session.execute(update(Experiment).where(Experiment.id == experiment_id).values(state="succeeded"))


async def test_the_oldest_start_first_and_no_more_than_the_slots(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    async with parts(database_url, tmp_path, ray, slots=3) as context:
        await run(context, "a")
        ids = [await enqueue(context, "a") for _ in range(5)]
        await change(context, Experiment, ids[1], due_at=datetime.now(UTC) + timedelta(hours=1))
        async with context.database.transaction() as session:
            leased = await service.lease(session, context.settings, uuid4(), MINUTE)
        assert [row.id for row in leased] == [ids[0], ids[2]]
        assert await next_ids(context, 9) == ids[3:]  # what is leased is not offered again


async def test_a_higher_priority_goes_first(context: Context) -> None:
    low, normal, high = [await enqueue(context, "a", priority) for priority in (-1, 0, 7)]
    assert await next_ids(context, 9) == [high, normal, low]


async def test_owners_take_turns_at_equal_priority(context: Context) -> None:
    many = [await enqueue(context, "ada") for _ in range(4)]
    few = [await enqueue(context, "bob") for _ in range(2)]
    assert await next_ids(context, 9) == [many[0], few[0], many[1], few[1], many[2], many[3]]


async def test_what_an_owner_has_in_flight_counts_as_his_share(context: Context) -> None:
    for _ in range(2):
        await run(context, "ada")
    ada = [await enqueue(context, "ada") for _ in range(2)]
    bob = [await enqueue(context, "bob") for _ in range(3)]
    assert await next_ids(context, 9) == [bob[0], bob[1], ada[0], bob[2], ada[1]]


async def test_an_owner_at_his_limit_lets_the_others_by(context: Context) -> None:
    await run(context, "ada")
    ada = [await enqueue(context, "ada", priority=9) for _ in range(3)]
    bob = [await enqueue(context, "bob") for _ in range(3)]
    assert await next_ids(context, 9, owner_slots=2) == [ada[0], bob[0], bob[1]]
    assert await next_ids(context, 9, owner_slots=1) == [bob[0]]


async def test_the_next_attempt_waits_until_the_job_of_the_last_is_gone(context: Context) -> None:
    held = await run(context, "ada")
    async with context.database.transaction() as session:
        await session.execute(text("UPDATE attempts SET ended_at = now()"))
        await session.execute(update(Experiment).values(state="queued"))
    assert await next_ids(context, 9) == []
    async with context.database.transaction() as session:
        await session.execute(text("UPDATE attempts SET closed_at = now()"))
    assert await next_ids(context, 9) == [held]


async def test_nothing_waits_for_ever_behind_what_is_more_urgent(context: Context) -> None:
    """A low priority among a stream of higher ones: each hour without a turn is worth a point."""
    low = await enqueue(context, "ada", priority=-3)
    turns = []
    for _ in range(4):
        fresh = await enqueue(context, "bob")
        started = await start_next(context)
        await end(context, started.id)
        turns.append("low" if started.id == low else "fresh" if started.id == fresh else "other")
        async with context.database.transaction() as session:  # an hour goes by
            hour = repository.AGING
            await session.execute(update(Experiment).values(queued_at=Experiment.queued_at - hour))
            await session.execute(update(QueueTurn).values(at=QueueTurn.at - hour))
    assert turns == ["fresh"] * 3 + ["low"]  # with -3 + 3 it is as urgent, and older


async def test_a_thousand_that_wait_long_do_not_push_a_newcomer_back(context: Context) -> None:
    old = datetime.now(UTC) - timedelta(hours=5)
    ids = [await enqueue(context, "ada", queued_at=old) for _ in range(5)]
    newcomer = await enqueue(context, "bob")
    assert await next_ids(context, 3) == [ids[0], newcomer, ids[1]]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), min_size=1, max_size=12),
    st.lists(st.sampled_from("abc"), max_size=4),
    st.integers(1, 4),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_laws_of_the_order(
    context: Context, queued: Sequence[tuple[str, int]], running: Sequence[str], limit: int
) -> None:
    async with context.database.transaction() as session:
        await session.execute(text("TRUNCATE experiments, queue_turns CASCADE"))
    for owner in running:
        await run(context, owner)
    facts = {await enqueue(context, owner, priority): (owner, priority) for owner, priority in queued}
    order = await next_ids(context, 99)
    assert sorted(order) == sorted(facts)  # everybody, once
    assert [facts[i][1] for i in order] == sorted((p for _, p in queued), reverse=True)  # priority rules
    load = Counter(running)
    for index, chosen in enumerate(order):
        owner, priority = facts[chosen]
        rivals = [facts[i][0] for i in order[index:] if facts[i][1] == priority]
        assert load[owner] == min(load[rival] for rival in rivals)  # the smallest share next
        assert chosen == min(i for i in order[index:] if facts[i] == facts[chosen])  # and of it the oldest
        load[owner] += 1
    limited = await next_ids(context, 99, limit)
    loads = Counter(running) + Counter(facts[i][0] for i in limited)
    assert all(loads[facts[i][0]] <= limit for i in limited)
    assert limited == [i for i in order if i in limited]


async def test_many_queued_experiments_do_not_fill_more_slots_than_there_are(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    async with parts(database_url, tmp_path, ray) as context:
        async with context.database.transaction() as session:
            await session.execute(
                text("""INSERT INTO experiments (name, owner, spec, spec_text, metric, mode, trial_count)
                        SELECT 'a', 'a' || n % 7, '{}', '', 'h_r', 'max', 1 FROM generate_series(1, 3000) AS n""")
            )
        for plan in ("on", "off"):
            async with context.database.transaction() as session:
                for setting in ("hashjoin", "sort", "hashagg", "material"):
                    await session.execute(text(f"SET LOCAL enable_{setting} = {plan}"))
                assert len(await service.lease(session, context.settings, uuid4(), MINUTE)) == 4


# -- what is said of it -------------------------------------------------------------------------------------------


async def waiting(context: Context, experiment_id: int) -> WaitingRead:
    async with context.database.transaction() as session:
        row = await experiments.find(session, experiment_id)
        return (await service.waiting(session, context, [row]))[experiment_id]


async def test_who_waits_is_told_where_and_for_what(database_url: str, tmp_path: Path, ray: RayStandIn) -> None:
    async with parts(database_url, tmp_path, ray, slots=2, owner_slots=1) as context:
        first, second = await enqueue(context, "ada"), await enqueue(context, "ada")
        assert await waiting(context, first) == WaitingRead(position=1, reason="starting next")
        await run(context, "ada")
        assert await waiting(context, second) == WaitingRead(position=2, reason="1 of 1 slots of ada in use")
        busy = await run(context, "bob")
        assert (await waiting(context, second)).reason == "2 of 2 slots in use"
        await change(context, Experiment, first, due_at=datetime.now(UTC) + MINUTE)
        assert "after an attempt that broke off" in (await waiting(context, first)).reason
        await change(context, Experiment, busy, state="queued")
        assert (await waiting(context, busy)).reason == "the job of its last attempt is still ending"
        await context.jobs.close()
        assert (await waiting(context, second)).reason == "the Ray cluster is starting"


async def test_the_api_shows_the_place_in_the_queue(service: Running) -> None:
    first, second = (await service.submit())["id"], (await service.submit())["id"]
    async with client(service.url, await add_token(service.context.database, "admin")) as admin:
        urgent = (await admin.post("/api/v1/experiments?priority=5", content="name: urgent")).json()
    assert urgent["priority"] == 5
    items = (await service.http.get("/api/v1/experiments")).json()["items"]
    assert {item["id"]: item["waiting"]["position"] for item in items} == {urgent["id"]: 1, first: 2, second: 3}
    assert (await service.experiment(second))["waiting"] == {"position": 3, "reason": "the Ray cluster is starting"}
    assert (await service.http.post("/api/v1/experiments?priority=101", content="name: a")).status_code == 422


@pytest.mark.usefixtures("quick_dispatch")
async def test_a_paused_experiment_frees_its_slot_and_comes_back_in_its_turn(
    database_url: str, tmp_path: Path, ray: RayStandIn
) -> None:
    async with parts(database_url, tmp_path, ray, slots=1) as context:
        first, second = await queue(context), await queue(context)
        async with dispatching(context):
            attempt = await submitted(context, first)
            await act(context, "pause", first)
            await submitted(context, second)
            assert (await load(context, first)).state == "paused"
            assert ray.job(attempt.submission_id).stops
            await closed(context, first)  # until then it waits for that
            await act(context, "resume", first)
            assert (await waiting(context, first)).reason == "1 of 1 slots in use"
            other = next(job for job in ray.jobs.values() if job.submission_id != attempt.submission_id)
            await Worker.of(context, other).report(outcome={"state": "succeeded"})
            ray.end(other, "SUCCEEDED")
            await submitted(context, first, 2)
            await until(lambda: len(ray.jobs) == 3)
