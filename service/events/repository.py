"""Queries on events."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import notify
from service.database.tables import Event, Experiment


async def append(session: AsyncSession, experiment_id: int, kind: str, payload: dict[str, Any]) -> int:
    """Write one event and wake those who follow the experiment. Returns its number."""
    seq = await next_number(session, experiment_id)
    await session.execute(insert(Event).values(experiment_id=experiment_id, seq=seq, kind=kind, payload=payload))
    return seq


async def next_number(session: AsyncSession, experiment_id: int) -> int:
    """The number of the next event, whatever table it goes to; wakes those who follow once it commits.

    The number comes from the experiment's row, whose lock is held until the commit: a reader who has seen
    event n will never find a smaller one appear later.
    """
    raised = await session.execute(
        text("UPDATE experiments SET seq = seq + 1 WHERE id = :id RETURNING seq, pg_notify(:channel, :payload)"),
        {"id": experiment_id, "channel": notify.EVENTS, "payload": str(experiment_id)},
    )
    return int(raised.one().seq)


async def after(session: AsyncSession, experiment_id: int, seq: int, limit: int) -> Sequence[Event]:
    """Events that follow event `seq`, in order."""
    query = select(Event).where(Event.experiment_id == experiment_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    return (await session.scalars(query)).all()


async def place(session: AsyncSession, experiment_id: int) -> Row[int, int] | None:
    """How far the stream of an experiment is: seq, merged_seq; None if there is no such experiment."""
    query = select(Experiment.seq, Experiment.merged_seq).where(Experiment.id == experiment_id)
    return (await session.execute(query)).one_or_none()
