"""Queries on experiments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from adadim_core.spec import TrialPlan
from service.database import notify
from service.database.audit import MAX_REASON
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
    return await with_key(session, owner, key)


async def with_key(session: AsyncSession, owner: str, key: str) -> IdempotencyKey | None:
    """The submission that used this key before, or None."""
    return await session.get(IdempotencyKey, (owner, key))


async def keep_key(session: AsyncSession, owner: str, key: str, body_hash: bytes, experiment_id: int) -> None:
    """Remember which experiment a key gave."""
    await session.execute(
        upsert(IdempotencyKey).values(owner=owner, key=key, body_hash=body_hash, experiment_id=experiment_id)
    )


@dataclass(frozen=True)
class NewExperiment:
    """What a submission stores."""

    name: str
    owner: str
    spec: dict[str, Any]
    spec_text: str
    priority: int
    metric: str
    mode: str
    trials: Sequence[TrialPlan]
    reason: str | None
    """Why it is there, where that is not plain."""


# One statement, so one round trip and, without a transaction around it, one transaction: a hundred a second are made.
_ADD = f"""
    WITH new AS (
        INSERT INTO experiments (name, owner, spec, spec_text, priority, metric, mode, trial_count, seq)
        VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7, cardinality($8::int[]), 1)
        RETURNING id, state, state_reason, desired_state, trial_count, trials_done, attempt, best_trial, best_value,
            created_at, started_at, ended_at
    ), planned AS (
        INSERT INTO trials (experiment_id, number, params)
        SELECT new.id, w.number, w.params::jsonb FROM new, unnest($8::int[], $9::text[]) AS w (number, params)
    ), entered AS (
        INSERT INTO transitions (experiment_id, target, by, reason, attempt)
        SELECT id, state, $2, $10, attempt FROM new
    ), audited AS (
        INSERT INTO audit (by, action, experiment_id, subject, details)
        SELECT $2, 'experiment.submitted', id, $1, jsonb_strip_nulls(jsonb_build_object(
            'trials', trial_count, 'priority', $5::int, 'reason', left($10, {MAX_REASON})
        )) FROM new
    ), told AS (
        INSERT INTO events (experiment_id, seq, kind, payload)
        SELECT id, 1, 'experiment', jsonb_build_object('state', state) FROM new
    )
    SELECT new.*, pg_notify('{notify.DISPATCH}', '') FROM new
"""  # noqa: S608 - made of constants only


async def add(connection: AsyncConnection, new: NewExperiment) -> Experiment:
    """Store a queued experiment with its planned trials and wake the dispatcher. Gives the row, in no session."""
    values = (
        new.name, new.owner, json.dumps(new.spec), new.spec_text, new.priority, new.metric, new.mode,
        [plan.number for plan in new.trials], [json.dumps(plan.params) for plan in new.trials], new.reason,
    )  # fmt: skip
    row = (await connection.exec_driver_sql(_ADD, values)).one()
    stored = {name: value for name, value in row._mapping.items() if name != "pg_notify"}
    return Experiment(
        name=new.name, owner=new.owner, spec=new.spec, spec_text=new.spec_text, priority=new.priority,
        labels=new.spec.get("labels", {}), metric=new.metric, mode=new.mode, **stored,
    )  # fmt: skip


async def add_trials(session: AsyncSession, experiment_id: int, trials: Sequence[TrialPlan]) -> None:
    """Store planned trials."""
    if not trials:  # SQLAlchemy would insert a row of defaults
        return
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


async def count(session: AsyncSession, owner: str, state: str) -> int:
    """How many experiments of an owner are in a state."""
    query = select(func.count()).where(Experiment.owner == owner, Experiment.state == state)
    return (await session.scalars(query)).one()


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


_ENTER = text("""
    WITH entered AS (
        INSERT INTO transitions (experiment_id, source, target, by, reason, attempt)
        VALUES (:id, :source, :target, :by, :reason, :attempt)
    )
    INSERT INTO audit (by, action, experiment_id, subject, details)
    VALUES (:by, 'experiment.' || :target, :id, :name, CAST(:details AS jsonb))
""")


async def add_transition(
    session: AsyncSession, experiment: Experiment, source: str, *, by: str, reason: str | None
) -> None:
    """Write down that an experiment came from `source` to the state it has now, in its history and in the audit."""
    details = {"from": source, "attempt": experiment.attempt, "reason": reason and reason[:MAX_REASON]}
    values = {
        "id": experiment.id, "name": experiment.name, "source": source, "target": experiment.state, "by": by,
        "reason": reason, "attempt": experiment.attempt, "details": json.dumps(details),
    }  # fmt: skip
    await session.execute(_ENTER, values)


async def transitions(session: AsyncSession, experiment_id: int, *, after: int, limit: int) -> Sequence[Transition]:
    """What happened to an experiment, oldest first, from the one after transition `after` on."""
    query = select(Transition).where(Transition.experiment_id == experiment_id, Transition.id > after)
    return (await session.scalars(query.order_by(Transition.id).limit(limit))).all()


async def attempts(session: AsyncSession, experiment_id: int, *, after: int, limit: int) -> Sequence[Attempt]:
    """The attempts of an experiment by number, from the one after `after` on."""
    query = select(Attempt).where(Attempt.experiment_id == experiment_id, Attempt.number > after)
    return (await session.scalars(query.order_by(Attempt.number).limit(limit))).all()


_PACE = """
    WITH recent AS (
        SELECT id, spec, started_at, ended_at FROM experiments ORDER BY id DESC LIMIT :looked_at
    ), like_it AS (
        SELECT id, started_at, ended_at FROM recent WHERE spec -> 'data' ->> 'dataset' = :dataset
            AND spec -> 'model' ->> 'backbone' = :backbone
            AND (spec -> 'model' ->> 'width')::int IS NOT DISTINCT FROM CAST(:width AS int)
            AND NOT EXISTS (
                SELECT FROM jsonb_object_keys(spec -> 'search' -> 'space') AS path WHERE path ~ '^(model|data)'
            )
        ORDER BY id DESC LIMIT :experiments
    ), trained AS (
        SELECT experiment_id, epoch, extract(epoch FROM ended_at - started_at)::float8 AS seconds FROM trials
        WHERE experiment_id IN (SELECT id FROM like_it) AND state = 'succeeded' AND epoch > 0 AND started_at < ended_at
    ), together AS (
        SELECT sum(seconds) / extract(epoch FROM min(e.ended_at) - min(e.started_at))::float8 AS at_once
        FROM trained JOIN like_it AS e ON e.id = experiment_id WHERE e.started_at < e.ended_at GROUP BY e.id
    )
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / epoch) AS seconds_per_epoch, count(*) AS trials,
        (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY at_once) FROM together) AS at_once
    FROM trained
"""


async def pace(session: AsyncSession, *, backbone: str, width: int | None, dataset: str) -> Row[Any]:
    """How fast a network trained lately: median seconds an epoch, of how many trials, how many of them at once.

    The first is null where it never did, the last where no experiment of it has ended.
    """
    values = {"backbone": backbone, "width": width, "dataset": dataset, "looked_at": 1000, "experiments": 20}
    return (await session.execute(text(_PACE), values)).one()


_REMOVE = text("""
    WITH gone AS (DELETE FROM experiments WHERE id = :id RETURNING *)
    INSERT INTO audit (by, action, experiment_id, subject, details)
    SELECT :by, 'experiment.removed', id, name, jsonb_build_object(
        'owner', owner, 'created_at', created_at, 'started_at', started_at, 'ended_at', ended_at, 'attempts', attempt,
        'trials', trial_count, 'trials_done', trials_done, 'metric', metric, 'best_trial', best_trial,
        'best_value', best_value, 'spec_sha256', encode(sha256(convert_to(spec_text, 'UTF8')), 'hex')
    ) FROM gone
""")


async def remove(session: AsyncSession, experiment_id: int, *, by: str) -> None:
    """Delete an experiment and everything the database has of it, but for its essentials, which the audit keeps."""
    await session.execute(_REMOVE, {"id": experiment_id, "by": by})
