"""Queries on experiments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from adadim_core.spec import TrialPlan
from service.database.tables import Attempt, Experiment, IdempotencyKey, Installation, Transition, Trial

_MAX_DATA_SETS = 64
"""A sweep over more keeps the facts of the first."""


async def installation_key(session: AsyncSession) -> str:
    """What tells this database's jobs from another's."""
    return (await session.scalars(select(Installation.key))).one()


async def claim_key(session: AsyncSession, owner: str, key: str) -> IdempotencyKey | None:
    """The submission that used this key before, or None if it is new.

    Holds a lock on the key until the transaction ends, so that equal submissions wait for each other.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"idempotency:{owner}:{key}"}
    )
    return await session.get(IdempotencyKey, (owner, key))


async def keep_key(session: AsyncSession, owner: str, key: str, body_hash: bytes, experiment_id: int) -> None:
    """Remember which experiment a key gave."""
    await session.execute(
        upsert(IdempotencyKey).values(owner=owner, key=key, body_hash=body_hash, experiment_id=experiment_id)
    )


async def add(session: AsyncSession, experiment: Experiment, trials: Sequence[TrialPlan]) -> Experiment:
    """Store an experiment and its planned trials."""
    session.add(experiment)
    await session.flush()
    await add_trials(session, experiment.id, trials)
    return experiment


async def add_trials(session: AsyncSession, experiment_id: int, trials: Sequence[TrialPlan]) -> None:
    """Store planned trials."""
    await session.execute(
        insert(Trial), [{"experiment_id": experiment_id, "number": t.number, "params": t.params} for t in trials]
    )


async def get(session: AsyncSession, experiment_id: int, *, lock: bool = False) -> Experiment | None:
    """One experiment; with `lock`, nobody else changes it until the transaction ends."""
    return await session.get(Experiment, experiment_id, with_for_update=lock or None)


async def attempt_open(session: AsyncSession, experiment_id: int) -> bool:
    """Whether an attempt of the experiment may still report."""
    query = select(Attempt.id).where(Attempt.experiment_id == experiment_id, Attempt.ended_at.is_(None)).limit(1)
    return (await session.scalars(query)).first() is not None


async def page(session: AsyncSession, *, before: int | None, limit: int) -> Sequence[Experiment]:
    """Experiments without their specs, newest first, from the one before `before` on."""
    without = (defer(Experiment.spec, raiseload=True), defer(Experiment.spec_text, raiseload=True))
    query = select(Experiment).options(*without).order_by(Experiment.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Experiment.id < before)
    return (await session.scalars(query)).all()


async def change(session: AsyncSession, experiment_id: int, **values: Any) -> None:
    """Set columns of one experiment."""
    await session.execute(update(Experiment).where(Experiment.id == experiment_id).values(**values))


async def add_data(session: AsyncSession, experiment_id: int, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep facts about data sets, by name: the first that are told, of so many data sets."""
    known = select(func.count()).select_from(func.jsonb_object_keys(Experiment.data).table_valued("key"))
    await session.execute(
        update(Experiment)
        .where(Experiment.id == experiment_id, known.correlate(Experiment).scalar_subquery() < _MAX_DATA_SETS)
        .values(data=literal(facts, JSONB).op("||")(Experiment.data))
        .execution_options(synchronize_session=False)
    )


async def data(session: AsyncSession, experiment_id: int) -> dict[str, dict[str, Any]]:
    """The facts about an experiment's data sets, by name."""
    found: dict[str, dict[str, Any]] = (
        await session.scalars(select(Experiment.data).where(Experiment.id == experiment_id))
    ).one()
    return found


async def make_due(session: AsyncSession, experiment_id: int, at: datetime | None = None) -> None:
    """Have the dispatcher look at an experiment: now, or at a time."""
    await change(session, experiment_id, due_at=at or func.now())


async def add_transition(
    session: AsyncSession, experiment: Experiment, source: str | None, *, by: str, reason: str | None
) -> None:
    """Write down that an experiment came from `source` to the state it has now."""
    await session.execute(
        insert(Transition).values(
            experiment_id=experiment.id,
            source=source,
            target=experiment.state,
            by=by,
            reason=reason,
            attempt=experiment.attempt,
        )
    )


async def transitions(
    session: AsyncSession, experiment_id: int, *, after: int | None, limit: int
) -> Sequence[Transition]:
    """What happened to an experiment, oldest first, from the one after transition `after` on."""
    query = select(Transition).where(Transition.experiment_id == experiment_id).order_by(Transition.id).limit(limit)
    if after is not None:
        query = query.where(Transition.id > after)
    return (await session.scalars(query)).all()


async def remove(session: AsyncSession, experiment_id: int) -> None:
    """Delete an experiment and everything the database has of it."""
    await session.execute(delete(Experiment).where(Experiment.id == experiment_id))
