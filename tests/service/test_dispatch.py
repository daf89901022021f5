"""The dispatcher as a whole: it survives its database, and quarrels with no report."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dispatch_harness import (
    change,
    dispatching,
    submitted,
)
from service_harness import RayStandIn, Worker, last_attempt, load, points, queue, sweep, until
from sqlalchemy import text

from service.context import Context
from service.database.engine import Database
from service.database.tables import Experiment
from service.dispatch import repository

pytestmark = pytest.mark.usefixtures("quick_dispatch")


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
                    {"name": context.database.address.database},
                )
            await asyncio.sleep(0.02)
        for experiment_id in ids:
            await until(lambda: _submitted_or_expire(context, experiment_id))  # noqa: B023


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
