"""The order of the queue as one statement, used to choose the next experiment and to say who waits where.

Higher priority first; at equal priority the owner with the fewest experiments in flight; then the oldest. The first
experiment of an owner and priority gains a point of priority for every AGING it and its like had no turn, so that
nothing waits for ever behind what is more urgent; only the first, so that many experiments gain no more than one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Attempt, Experiment, QueueTurn, Trial

AGING = timedelta(hours=1)
LOCK = 0x_ADAD_1_0002
"""Advisory lock under which experiments start, one replica at a time."""

_IN_FLIGHT = """
    SELECT e.owner, count(*) AS experiments FROM attempts AS a JOIN experiments AS e ON e.id = a.experiment_id
    WHERE a.closed_at IS NULL AND a.ended_at IS NULL GROUP BY e.owner
"""
# An earlier attempt whose job is not closed blocks the next one: two must never run at once.
_HELD = "EXISTS (SELECT FROM attempts AS a WHERE a.experiment_id = e.id AND a.closed_at IS NULL)"
_READY = f"""
    e.due_at <= now() AND (e.lock_expires_at IS NULL OR e.lock_expires_at < now()) AND NOT {_HELD}
"""
_ORDER = """
    WITH in_flight AS ({in_flight}),
    like_each_other AS (
        SELECT e.id, e.owner, e.priority, e.queued_at, e.due_at,
            row_number() OVER (PARTITION BY e.owner, e.priority ORDER BY e.id) AS nth
        FROM experiments AS e WHERE e.state = 'queued' AND {condition}
    ), aged AS (
        SELECT q.*, q.priority + CASE WHEN q.nth = 1
            THEN floor(extract(epoch FROM now() - greatest(q.queued_at, turn.at)) / :aging) ELSE 0 END AS urgency
        FROM like_each_other AS q LEFT JOIN queue_turns AS turn USING (owner, priority) WHERE q.nth <= :depth
    ), shared AS (
        SELECT aged.*, coalesce(in_flight.experiments, 0) AS owner_in_flight,
            coalesce(in_flight.experiments, 0) + row_number() OVER (
                PARTITION BY aged.owner ORDER BY urgency DESC, aged.id
            ) AS share
        FROM aged LEFT JOIN in_flight USING (owner)
    ), numbered AS (
        SELECT shared.*, row_number() OVER (ORDER BY urgency DESC, share, id) AS position FROM shared
    )
"""


class Waiting(NamedTuple):
    """Where a queued experiment stands."""

    position: int
    """From 1."""
    owner_in_flight: int
    due_at: datetime
    held: bool
    """The job of its last attempt is not gone yet."""
    due: bool


async def next_ids(session: AsyncSession, free: int, owner_slots: int | None) -> Sequence[int]:
    """The experiments to start now, in order, at most `free`."""
    order = _ORDER.format(in_flight=_IN_FLIGHT, condition=_READY)
    rows = await session.execute(
        text(
            f"{order} SELECT id FROM numbered"  # noqa: S608 - made of the constants above
            " WHERE CAST(:owner_slots AS int) IS NULL OR share <= :owner_slots ORDER BY position LIMIT :free"
        ),
        # Of those like each other no more can start than there are slots: the rest need not be put in order.
        {"aging": AGING.total_seconds(), "owner_slots": owner_slots, "free": free, "depth": free},
    )
    return [row.id for row in rows]


async def lease_next(session: AsyncSession, ids: Sequence[int], token: UUID, life: timedelta) -> Sequence[Experiment]:
    """Lease those of the chosen experiments that are still queued, in the order given; their owners had a turn."""
    query = (
        select(Experiment)
        .where(Experiment.id.in_(ids), Experiment.state == "queued")
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    rows = {row.id: row for row in await session.scalars(query)}
    for row in rows.values():
        row.lock_token, row.lock_expires_at = token, func.now() + life
    await session.flush()
    turns = sorted({(row.owner, row.priority) for row in rows.values()})
    if turns:
        statement = upsert(QueueTurn).values([{"owner": o, "priority": p, "at": func.now()} for o, p in turns])
        await session.execute(
            statement.on_conflict_do_update(index_elements=["owner", "priority"], set_={"at": func.now()})
        )
    return [rows[i] for i in ids if i in rows]


async def lock(session: AsyncSession) -> None:
    """Wait for one's turn to start experiments, so that replicas together never fill more slots than there are."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


async def in_flight(session: AsyncSession) -> int:
    """Attempts that are not over."""
    query = select(func.count()).where(Attempt.closed_at.is_(None), Attempt.ended_at.is_(None))
    return (await session.scalars(query)).one()


async def waiting(session: AsyncSession, ids: Sequence[int]) -> dict[int, Waiting]:
    """Where these experiments stand in the queue, those that are in it."""
    order = _ORDER.format(in_flight=_IN_FLIGHT, condition="true")
    rows = await session.execute(
        text(f"""{order}
            SELECT e.id, position, owner_in_flight, e.due_at, {_HELD} AS held, e.due_at <= now() AS due
            FROM numbered AS e WHERE e.id = ANY(:ids)
        """),  # noqa: S608
        {"aging": AGING.total_seconds(), "ids": list(ids), "depth": 2**31},
    )
    return {row.id: Waiting(row.position, row.owner_in_flight, row.due_at, row.held, row.due) for row in rows}


async def holders(session: AsyncSession) -> Sequence[int]:
    """The experiments whose trials train now, by number."""
    query = select(Trial.experiment_id).where(Trial.state == "running").distinct().order_by(Trial.experiment_id)
    return (await session.scalars(query)).all()


async def idle(session: AsyncSession, ids: Sequence[int], least: timedelta) -> dict[int, dict[str, Any]]:
    """What a trial takes, of those of the given experiments whose attempt has reported for so long."""
    query = (
        select(Experiment.id, Experiment.spec["resources"])
        .join(Attempt, (Attempt.experiment_id == Experiment.id) & (Attempt.number == Experiment.attempt))
        .where(Experiment.id.in_(ids), Attempt.ended_at.is_(None), Attempt.started_at < func.now() - least)
        .where(Experiment.trials_done < Experiment.trial_count)
    )
    return {row[0]: row[1] or {} for row in await session.execute(query)}
