"""What tests of the dispatcher are made of: dispatchers that can be killed, and attempts at every stage."""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from service_harness import last_attempt, load, until
from sqlalchemy import select

from service.actions import service as actions
from service.context import Context
from service.database.tables import Attempt, Experiment
from service.dispatch import repository
from service.dispatch.dispatcher import Dispatcher

URL = "http://service:8080"
LONG_AGO = timedelta(days=1)


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
    context.reception.since = datetime.now(UTC) - 2 * LONG_AGO
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


async def act(context: Context, name: Any, experiment_id: int) -> actions.ActionResult:
    """What a user does: cancel, pause, resume, retry, delete."""
    async with context.database.transaction() as session:
        return await actions.act(session, name, experiment_id, by="someone")


async def closed(context: Context, experiment_id: int) -> Attempt:
    async def check() -> Attempt | None:
        attempt = await last_attempt(context, experiment_id)
        return attempt if attempt is not None and attempt.closed_at is not None else None

    found: Attempt = await until(check, "the attempt to be closed")
    return found
