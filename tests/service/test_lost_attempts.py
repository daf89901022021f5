"""Attempts that are lost, interrupted or end: what follows them."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dispatch_harness import (
    LONG_AGO,
    attempts_of,
    change,
    dispatching,
    ended,
    fall_silent,
    in_state,
    submitted,
)
from service_harness import RayStandIn, Worker, load, parts, queue, sweep, until
from sqlalchemy import select

from service import reception
from service.attempts import repository as attempts
from service.context import Context
from service.database.tables import Attempt, Event, Experiment, Transition, Trial
from service.dispatch import repository, service
from service.errors import ServiceError
from service.queue import repository as queue_rows

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
    why = r"3 attempts lost, retries: 2; the last: no word for 864\d\d s; Ray says FAILED: the node died"
    assert re.fullmatch(why, str(experiment.state_reason)), experiment.state_reason
    assert [a.state for a in await attempts_of(context, experiment_id)] == ["lost"] * 3
    async with context.database.transaction() as session:
        events = (await session.scalars(select(Event).where(Event.kind == "experiment").order_by(Event.seq))).all()
        trials = (await session.scalars(select(Trial.state))).all()
    again = ["starting", "running", "queued"]
    assert [event.payload["state"] for event in events] == ["queued", *again, *again, "starting", "running", "failed"]
    assert set(trials) == {"stopped"}


async def of_a_forgotten_job(context: Context, ray: RayStandIn, cluster_end: str | None = None) -> Attempt:
    """The attempt whose job Ray knows no more, once it is lost; with the end of the cluster where that is known."""
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
        ray.jobs.clear()
        if cluster_end is not None:
            context.jobs.cluster_ended(cluster_end)
        await fall_silent(context, attempt.id)
        await submitted(context, experiment_id, 2)
    return (await attempts_of(context, experiment_id))[0]


async def test_a_job_ray_has_forgotten_is_lost_too(context: Context, ray: RayStandIn) -> None:
    first = await of_a_forgotten_job(context, ray)
    assert first.state == "lost"
    assert re.fullmatch(r"no word for 864\d\d s; Ray has lost its job", str(first.error)), first.error


async def test_why_a_job_is_lost_is_told_where_it_is_known(context: Context, ray: RayStandIn) -> None:
    first = await of_a_forgotten_job(context, ray, "the files of the local Ray head in /tmp/x were removed")
    assert "Ray has lost its job: the files of the local Ray head in /tmp/x were removed" in str(first.error)


async def test_it_is_told_too_if_silence_passed_its_limit_while_ray_was_asked(
    context: Context, ray: RayStandIn
) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
        ray.gate.clear()
        asked = ("GET", f"/api/jobs/{attempt.submission_id}")
        known = ray.arrived.count(asked)
        await until(lambda: ray.arrived.count(asked) > known, "a look at the job that is not answered")
        ray.jobs.clear()
        context.jobs._end = ("the head was removed", time.monotonic() - 3600.0)
        await fall_silent(context, attempt.id)
        ray.gate.set()
        await submitted(context, experiment_id, 2)
    assert "Ray has lost its job: the head was removed" in str((await attempts_of(context, experiment_id))[0].error)


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
    context.reception.since = datetime.now(UTC) - LONG_AGO
    monkeypatch.setattr(reception, "datetime", Ahead)
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


async def test_an_outage_of_the_database_makes_no_worker_silent(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id = await queue(context)
    failing = True

    async def away(*_: Any) -> Any:
        if failing:
            raise ConnectionRefusedError
        return []

    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
    await fall_silent(context, attempt.id)  # nobody could write down what it said
    with monkeypatch.context() as patch:
        patch.setattr(repository, "lease_due", away)
        async with dispatching(context):
            await asyncio.sleep(0.2)
    async with dispatching(context):
        looks = len(ray.requests)
        await until(lambda: len(ray.requests) > looks + 5)
    assert ray.only_job.stops == 0
    assert (await attempts_of(context, experiment_id))[0].state == "starting"


def test_a_machine_that_slept_received_nothing_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 1, 5, 600, 601, 590))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return next(times)

    monkeypatch.setattr(reception, "datetime", Clock)
    received = reception.Reception()
    unbroken = [received.unbroken_for().total_seconds() for _ in range(5)]
    assert unbroken == [1, 5, 0, 1, 0]  # the last: one whose clock was set back


async def test_what_is_heard_while_ray_takes_its_time_counts(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report()
    await fall_silent(context, attempt.id)
    ray.end(ray.only_job, "FAILED")
    # The dispatcher may have been stopped while it took a lease.
    await change(context, Experiment, experiment_id, due_at=datetime.now(UTC) - LONG_AGO, lock_expires_at=None)
    async with context.database.transaction() as session:
        ((_, lease),) = await repository.lease_due(session, 1)
    ray.gate.clear()
    asked = len(ray.arrived)
    look = asyncio.create_task(service.check(context, experiment_id, lease))
    await until(lambda: len(ray.arrived) > asked)
    await Worker.of(context, ray.only_job).report()
    ray.gate.set()
    await look
    assert (await load(context, experiment_id)).state == "running"


async def test_a_job_that_runs_for_ever_is_lost_and_then_given_up(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray goes on calling a job running whose driver's node is gone (kuberay#3860)."""
    ray.stubborn = True
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        worker = Worker.of(context, ray.only_job)
        await worker.report()
        await fall_silent(context, attempt.id)
        await until(in_state(context, experiment_id, "queued"))
        assert "stop had no effect" in caplog.text
        async with context.database.transaction() as session:
            assert await queue_rows.in_flight(session) == 0, "its slot is free"
        stops = ray.only_job.stops
        await until(lambda: ray.only_job.stops > stops + 2)
        assert (await load(context, experiment_id)).attempt == 1  # it may live, and end when it is told
        now = datetime.now(UTC)
        await change(context, Attempt, attempt.id, ended_at=now - LONG_AGO, refused_at=now)  # it does
        await asyncio.sleep(0.3)
        assert (await load(context, experiment_id)).attempt == 1
        await change(context, Attempt, attempt.id, refused_at=None)
        await submitted(context, experiment_id, 2)
        with pytest.raises(ServiceError, match="Superseded"):
            await worker.report()
        stops = ray.job(attempt.submission_id).stops
        await until(lambda: ray.job(attempt.submission_id).stops > stops)  # and still told to end
    assert [a.state for a in await attempts_of(context, experiment_id)] == ["lost", "starting"]


async def test_what_ends_at_every_start_waits_longer_each_time_and_fails_in_the_end(
    context: Context, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MAX_BACKOFF", timedelta(seconds=60))
    monkeypatch.setattr(service, "_MAX_FRUITLESS", 4)
    experiment_id = await queue(context, sweep(1, retries=0))
    waits = []
    async with dispatching(context):
        for number in (1, 2, 3, 4, 5):
            attempt = await submitted(context, experiment_id, number)
            ray.stubborn = True  # the next attempt waits until we have looked
            await Worker.of(context, ray.job(attempt.submission_id)).report(outcome={"state": "interrupted"})
            if number == 5:
                break
            ray.end(ray.job(attempt.submission_id), "STOPPED")

            async def requeued(number: int = number) -> float | None:
                async with context.database.transaction() as session:
                    query = select(Transition).where(Transition.target == "queued", Transition.attempt == number)
                    at = (await session.scalars(query)).one_or_none()
                    row = await session.get_one(Experiment, experiment_id)
                    return max((row.due_at - at.at).total_seconds(), 0.001) if at and row.due_at else None

            waits.append(await until(requeued))
            await change(context, Experiment, experiment_id, due_at=datetime.now(UTC))
        ray.end(ray.job(attempt.submission_id), "STOPPED")
        experiment = await ended(context, experiment_id)
    assert [round(wait) for wait in waits] == [0, 2, 4, 8]
    assert (experiment.state, experiment.state_reason) == ("failed", "5 attempts got nowhere; the last: None")


async def test_attempts_that_got_somewhere_are_not_counted(context: Context) -> None:
    experiment_id = await queue(context)
    now = datetime.now(UTC)
    async with context.database.transaction() as session:
        for number, minutes in enumerate([0, 5, 0, None], start=1):
            attempt = await attempts.add(
                session, experiment_id=experiment_id, number=number, submission_id=str(number), token_hash=b""
            )
            if minutes is not None:
                attempt.started_at, attempt.heartbeat_at = now, now + timedelta(minutes=minutes)
        await session.flush()
        minute = timedelta(minutes=1)
        assert [await attempts.fruitless_since(session, experiment_id, n, minute) for n in (0, 2, 3)] == [2, 2, 1]


async def test_a_job_that_waits_for_ray_is_not_silent_and_told(context: Context, ray: RayStandIn) -> None:
    ray.first_status = "PENDING"
    experiment_id = await queue(context)
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        context.reception.since = datetime.now(UTC) - LONG_AGO
        past = datetime.now(UTC) - 2 * service.SILENCE
        await change(context, Attempt, attempt.id, created_at=past, submitted_at=past)

        async def told() -> str | None:
            return (await load(context, experiment_id)).state_reason

        assert str(await until(told)).startswith("Ray has not started its job yet: ")
        looks = len(ray.requests)
        await until(lambda: len(ray.requests) > looks + 3)
        assert ray.only_job.stops == 0
        experiment = await load(context, experiment_id)
        assert (experiment.attempt, experiment.state) == (1, "starting")


async def test_a_job_that_ray_never_starts_is_lost_and_told(context: Context, ray: RayStandIn) -> None:
    ray.first_status = "PENDING"
    experiment_id = await queue(context, sweep(2, retries=0))
    async with dispatching(context):
        attempt = await submitted(context, experiment_id)
        await fall_silent(context, attempt.id)
        experiment = await ended(context, experiment_id)
    assert experiment.state == "failed"
    assert "Ray did not start its job within 864" in str(experiment.state_reason)


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
            with pytest.raises(ServiceError, match="Superseded"):
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
