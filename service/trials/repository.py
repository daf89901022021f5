"""Queries on trials."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Trial
from service.events import repository as events
from service.experiments.states import TRIAL_ENDED


async def get(session: AsyncSession, trial_id: int) -> Trial | None:
    """One trial."""
    return await session.get(Trial, trial_id)


async def page(session: AsyncSession, experiment_id: int, *, after: int | None, limit: int) -> Sequence[Trial]:
    """Trials in the order of the plan, from the one after number `after` on."""
    query = select(Trial).where(Trial.experiment_id == experiment_id).order_by(Trial.number).limit(limit)
    if after is not None:
        query = query.where(Trial.number > after)
    return (await session.scalars(query)).all()


async def outline(session: AsyncSession, experiment_id: int, *, latest: bool = False) -> Sequence[Row[Any]]:
    """Every trial as a bare row: id, number, state, and with `latest` its last values. For thousands at once."""
    columns = (Trial.id, Trial.number, Trial.state, *((Trial.latest,) if latest else ()))
    query = select(*columns).where(Trial.experiment_id == experiment_id).order_by(Trial.number)
    return list(await session.execute(query))


async def by_number(session: AsyncSession, experiment_id: int, numbers: Iterable[int]) -> Sequence[Trial]:
    """The trials of an experiment with these numbers."""
    query = select(Trial).where(Trial.experiment_id == experiment_id, Trial.number.in_(list(numbers)))
    return (await session.scalars(query)).all()


async def count_ended(session: AsyncSession, experiment_id: int) -> int:
    """Trials that will not run any more."""
    query = select(func.count()).where(Trial.experiment_id == experiment_id, Trial.state.in_(TRIAL_ENDED))
    return (await session.scalars(query)).one()


async def end_unfinished(session: AsyncSession, experiment_id: int) -> None:
    """The experiment is over: trials that did not finish are stopped."""
    await _move(session, experiment_id, ("pending", "running", "interrupted"), "stopped", ended_at=func.now())


async def interrupt_running(session: AsyncSession, experiment_id: int) -> None:
    """The attempt is over, another will follow: trials that ran wait for it."""
    await _move(session, experiment_id, ("running",), "interrupted")


async def take_up_again(session: AsyncSession, experiment_id: int) -> None:
    """The experiment resumes after its end: trials that did not finish wait for their next attempt."""
    await _move(session, experiment_id, ("stopped", "failed"), "interrupted", ended_at=None, error=None)


async def complete_params(session: AsyncSession, experiment_id: int, values: dict[str, Any]) -> None:
    """Give trials values that they do not say yet; what they say stays."""
    known = literal(values, JSONB)
    await session.execute(
        update(Trial).where(Trial.experiment_id == experiment_id).values(params=known.op("||")(Trial.params))
    )


async def _move(session: AsyncSession, experiment_id: int, states: tuple[str, ...], state: str, **values: Any) -> None:
    moved = await session.scalars(
        update(Trial)
        .where(Trial.experiment_id == experiment_id, Trial.state.in_(states))
        .values(state=state, **values)
        .returning(Trial.number)
    )
    for number in sorted(moved):
        await events.append(session, experiment_id, "trial", {"number": number, "state": state})


async def best(session: AsyncSession, experiment_id: int, metric: str, mode: str) -> tuple[int, float] | None:
    """The trial whose last value of the metric is best, and that value: finite, of a trial that did not fail."""
    direction = "DESC" if mode == "max" else "ASC"
    row = (
        await session.execute(
            text(f"""
                SELECT number, value FROM (
                    SELECT number, (latest -> :metric ->> 'value')::float8 AS value
                    FROM trials WHERE experiment_id = :experiment_id AND latest ? :metric AND state <> 'failed'
                ) AS last WHERE value NOT IN ('NaN', 'Infinity', '-Infinity') ORDER BY value {direction}, number LIMIT 1
            """),  # noqa: S608 - the direction is one of two words above
            {"metric": metric, "experiment_id": experiment_id},
        )
    ).one_or_none()
    return None if row is None else (row.number, row.value)
