"""Reports of many attempts committed together: nobody waits for another's lock, and nothing is lost or out of order."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_harness import Running, points, until
from sqlalchemy import func, select, text
from test_reports import Reporter

from service.attempts import receiving, reports
from service.attempts import repository as attempts
from service.attempts.body import Delivery
from service.attempts.inbox import Inbox
from service.attempts.room import Room
from service.database.tables import Event, Experiment, Segment
from service.metrics.repository import MAX_NAMES
from service.metrics.service import Candidate, best_after, best_of


async def numbers_of_events(service: Running, experiment_id: int) -> list[int]:
    async with service.context.database.transaction() as session:
        numbers: list[int] = []
        for table in (Event, Segment):
            numbers += await session.scalars(select(table.seq).where(table.experiment_id == experiment_id))
    return sorted(numbers)


async def running(service: Running, count: int) -> list[Reporter]:
    """Attempts that have reported every metric before, so that what follows is plain."""
    found = [await Reporter.open(service) for _ in range(count)]
    for one in found:
        await one.accepted(series=[points(0, [0], [0.0])])
    return found


async def test_reports_of_many_attempts_are_one_transaction(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    reporters = await running(service, 8)
    sizes: list[int] = []
    real = reports.write

    async def noted(connection: Any, changes: reports.Changes) -> set[int]:
        sizes.append(len(changes.attempts))
        return await real(connection, changes)

    monkeypatch.setattr(reports, "write", noted)
    for step in range(1, 6):
        await asyncio.gather(*(one.accepted(series=[points(0, [step], [float(step)])]) for one in reporters))
    assert sum(sizes) == 40
    assert max(sizes) > 1
    for one in reporters:
        assert (await one.series())[0]["steps"] == [0, 1, 2, 3, 4, 5]
        numbers = await numbers_of_events(service, one.experiment_id)
        assert numbers == [*range(1, len(numbers) + 1)], "numbers of events have no gaps"
    assert service.inbox.room == Room()


async def test_a_locked_experiment_holds_up_no_other(service: Running) -> None:
    held, free = await running(service, 2)
    async with service.context.database.transaction() as lock:
        await lock.execute(text(f"SELECT 1 FROM experiments WHERE id = {held.experiment_id} FOR UPDATE"))
        waiting = asyncio.create_task(held.accepted(series=[points(0, [1], [1.0])]))
        for step in range(1, 4):
            await free.accepted(series=[points(0, [step], [1.0])])
        assert not waiting.done()
    await waiting
    assert (await held.series())[0]["steps"] == [0, 1]


@pytest.mark.parametrize("change", ["cancelled", "superseded", "token"])
async def test_what_happens_between_reading_and_writing_counts(
    service: Running, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The statement that writes sees that what was read is so no more, and the reports are decided anew."""
    (reporter,) = await running(service, 1)
    real, changed = receiving.reports.read, 0

    async def read(*args: Any) -> Any:
        nonlocal changed
        rows = await real(*args)
        changed += 1
        if changed == 1:
            if change == "cancelled":
                await service.http.post(f"/api/v1/experiments/{reporter.experiment_id}/cancel")
            elif change == "superseded":
                await Reporter.next(service, reporter.experiment_id, 2)
            else:
                async with service.context.database.transaction() as session:
                    await attempts.change(session, reporter.attempt_id, token_hash=b"another")
        return rows

    monkeypatch.setattr(receiving.reports, "read", read)
    answer = await reporter.post(series=[points(0, [1], [1.0])])
    assert changed == 2
    expected = {"cancelled": 200, "superseded": 409, "token": 401}[change]
    assert answer.status_code == expected, answer.text
    if change == "cancelled":
        assert answer.json() == {"directive": "stop"}
    assert (await reporter.series())[0]["steps"] == ([0, 1] if expected == 200 else [0])
    numbers = await numbers_of_events(service, reporter.experiment_id)
    assert numbers == [*range(1, len(numbers) + 1)]


async def test_metric_names_are_a_budget_of_each_experiment(service: Running) -> None:
    greedy, modest = await Reporter.open(service), await Reporter.open(service)
    steps = list(range(40))
    for start in range(0, MAX_NAMES, 40):
        await greedy.accepted(series=[points(0, [1], [1.0], f"m_{start + k}") for k in steps])
    refused = await greedy.post(series=[points(0, [1], [1.0], "one_more")])
    assert refused.status_code == 422
    assert str(MAX_NAMES) in refused.json()["detail"]
    await greedy.accepted(series=[points(1, [1], [1.0], "m_7")])  # one it has
    await modest.accepted(series=[points(0, [1], [1.0], "one_more")])
    async with service.context.database.transaction() as session:
        query = select(func.cardinality(Experiment.metric_names)).where(Experiment.id == greedy.experiment_id)
        assert await session.scalar(query) == MAX_NAMES


async def test_a_report_that_changes_a_trial_a_thousand_times_changes_one_row_once(service: Running) -> None:
    (reporter,) = await running(service, 1)
    before = await numbers_of_events(service, reporter.experiment_id)
    updates = [{"number": 0, "state": "running", "epoch": epoch} for epoch in range(1, 1001)]
    await reporter.accepted(trials=updates)
    assert (await reporter.trial())["epoch"] == 1000
    assert len(await numbers_of_events(service, reporter.experiment_id)) == len(before) + 1


async def test_closing_does_not_wait_for_a_lock_for_ever(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.attempts.inbox._CLOSE_S", 0.2)
    (reporter,) = await running(service, 1)
    own = Inbox(service.context.database)  # that of other tests stays open
    monkeypatch.setattr(service.app.state.reporting, "inbox", own)
    async with service.context.database.transaction() as lock:
        await lock.execute(text(f"SELECT 1 FROM experiments WHERE id = {reporter.experiment_id} FOR UPDATE"))
        waiting = asyncio.create_task(reporter.post(series=[points(0, [1], [1.0])]))
        await until(lambda: service.inbox.room.reports)
        await until(lambda: service.inbox._busy)
        async with asyncio.timeout(20):
            await service.inbox.close()
        answer = await waiting
        assert answer.status_code == 503, "the worker delivers it again to the next service"


async def test_closing_starts_no_transaction_after_those_it_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0

    class Locked:
        @contextlib.asynccontextmanager
        async def transaction(self, *, of_report: bool) -> AsyncIterator[None]:
            nonlocal begun
            begun += 1
            await asyncio.Event().wait()
            yield

    monkeypatch.setattr("service.attempts.inbox._CLOSE_S", 0.05)
    database: Any = Locked()
    inbox = Inbox(database)
    large = Delivery([], [], None, size=1_000_000)
    waiting = [asyncio.create_task(inbox.deliver(1, large)) for _ in range(2)]
    await until(lambda: begun)
    await inbox.close()
    waiting.append(asyncio.create_task(inbox.deliver(2, large)))
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["stopping"] * 3
    assert begun == 1


finite = st.floats(-3, 3).map(lambda value: round(value))
trial_values = st.dictionaries(st.integers(0, 4), st.one_of(finite, st.just(math.nan)), max_size=5)


@given(before=trial_values, changes=trial_values, mode=st.sampled_from(["max", "min"]))
def test_the_best_trial_is_found_without_asking_all(
    before: dict[int, float], changes: dict[int, float], mode: str
) -> None:
    def candidates(values: dict[int, float]) -> dict[int, Candidate | None]:
        return {n: Candidate(n, v) if math.isfinite(v) else None for n, v in values.items()}

    best = best_of(candidates(before).values(), mode)
    found = best_after(best, candidates(changes), mode)
    if found == "unknown":
        others = {n: c for n, c in candidates(before).items() if n not in changes}
        found = best_of((*others.values(), *candidates(changes).values()), mode)
    assert found == best_of(candidates(before | changes).values(), mode)
