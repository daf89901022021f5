"""The statements behind workers' reports: they lock and read what reports concern, and write what they change.

Every report asks them, so they go to the driver as they are: putting statements together costs more than asking.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import notify

_LOCK = """
    SELECT a.id AS attempt_id, a.number, a.token_hash, a.state AS attempt_state, a.ended_at IS NOT NULL AS over,
        e.id AS experiment_id, e.attempt AS current, e.state, e.desired_state, e.state_reason, e.seq, e.metric, e.mode,
        e.trial_count, e.trials_done, e.best_trial, e.best_value
    FROM attempts AS a JOIN experiments AS e ON e.id = a.experiment_id
    WHERE a.id = ANY($1::bigint[]) ORDER BY e.id, a.id FOR NO KEY UPDATE OF e, a
"""


async def lock(connection: AsyncConnection, attempt_ids: Sequence[int], *, wait: bool) -> Sequence[Row[Any]]:
    """Attempts with their experiments, as they are now; nobody else changes them until the transaction ends.

    The experiment's lock orders reports, the dispatcher's steps and users' actions. Without `wait` those that are
    locked are left out, so that a transaction that holds many locks never waits for one.
    """
    statement = _LOCK if wait else _LOCK + " SKIP LOCKED"
    return (await connection.exec_driver_sql(statement, (attempt_ids,))).all()


_TRIALS = """
    SELECT t.id, t.experiment_id, t.number, t.state, t.epoch, t.epochs, t.error, t.reason,
        t.params::text AS params, t.latest::text AS latest
    FROM unnest($1::bigint[], $2::int[]) AS w (experiment_id, number)
    JOIN trials AS t ON t.experiment_id = w.experiment_id AND t.number = w.number
"""


async def trials(connection: AsyncConnection, keys: Sequence[tuple[int, int]]) -> Sequence[Row[Any]]:
    """Trials of locked experiments, by experiment and number; params and latest are JSON text."""
    return (await connection.exec_driver_sql(_TRIALS, tuple(map(list, zip(*keys, strict=True))))).all()


async def known_metrics(connection: AsyncConnection, names: Collection[str]) -> dict[str, int]:
    """Metrics that have a number, with it."""
    found = await connection.exec_driver_sql("SELECT name, id FROM metrics WHERE name = ANY($1::text[])", ([*names],))
    return {row.name: row.id for row in found}


@dataclass
class Changes:
    """What reports change, as rows of columns."""

    attempts: list[int] = field(default_factory=list)
    """Heard of now."""
    experiments: list[tuple[int, int, int, int | None, float | None, str | None]] = field(default_factory=list)
    """id, seq, trials_done, best_trial, best_value, state_reason"""
    trials: list[tuple[Any, ...]] = field(default_factory=list)
    """id, state, epoch, epochs, error, reason, params, latest, whether it ran, moved, ended; None keeps a JSON."""
    segments: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """experiment_id, seq, points, body"""
    events: list[tuple[int, int, str, str]] = field(default_factory=list)
    """experiment_id, seq, kind, payload"""
    names: list[tuple[int, str]] = field(default_factory=list)
    """experiment_id, metric it has from now on"""


_COLUMNS = {
    "trials": ("bigint", "text", "int", "int", "text", "text", "text", "text", "bool", "bool", "bool"),
    "segments": ("bigint", "bigint", "int", "bytea"),
    "events": ("bigint", "bigint", "text", "text"),
    "experiments": ("bigint", "bigint", "int", "int", "float8", "text"),
}
"""Types of the columns of `Changes`, in the order in which `_WRITE` has them as parameters, after the attempts."""


def _unnest(table: str) -> str:
    tables = [*_COLUMNS]
    first = 2 + sum(len(_COLUMNS[before]) for before in tables[: tables.index(table)])
    return f"unnest({', '.join(f'${first + n}::{kind}[]' for n, kind in enumerate(_COLUMNS[table]))})"


# Written under the experiments' locks, which `lock` has taken: numbers of events are gapless and commit in their order.
_WRITE = f"""
    WITH heard AS (
        UPDATE attempts SET heartbeat_at = now(), started_at = coalesce(started_at, now()),
            state = CASE state WHEN 'starting' THEN 'running' ELSE state END
        WHERE id = ANY($1::bigint[])
    ), changed_trials AS (
        UPDATE trials AS t SET state = w.state, epoch = w.epoch, epochs = w.epochs, error = w.error, reason = w.reason,
            params = coalesce(w.params::jsonb, t.params), latest = coalesce(w.latest::jsonb, t.latest),
            started_at = CASE WHEN w.ran THEN coalesce(t.started_at, now()) ELSE t.started_at END,
            ended_at = CASE WHEN NOT w.moved THEN t.ended_at WHEN w.ended THEN now() END
        FROM {_unnest("trials")} AS w (id, state, epoch, epochs, error, reason, params, latest, ran, moved, ended)
        WHERE t.id = w.id
    ), new_segments AS (
        INSERT INTO segments (experiment_id, seq, points, body) SELECT * FROM {_unnest("segments")}
    ), new_events AS (
        INSERT INTO events (experiment_id, seq, kind, payload)
        SELECT experiment_id, seq, kind, payload::jsonb
        FROM {_unnest("events")} AS w (experiment_id, seq, kind, payload)
    ), changed_experiments AS (
        UPDATE experiments AS e SET seq = w.seq, trials_done = w.trials_done, best_trial = w.best_trial,
            best_value = w.best_value, state_reason = w.state_reason
        FROM {_unnest("experiments")} AS w (id, seq, trials_done, best_trial, best_value, state_reason)
        WHERE e.id = w.id RETURNING e.id
    )
    SELECT pg_notify('{notify.EVENTS}', id::text) FROM changed_experiments
"""  # noqa: S608 - put together from words of ours
_ADD_NAMES = """
    UPDATE experiments AS e SET metric_names = e.metric_names || added.names FROM (
        SELECT id, array_agg(name) AS names FROM unnest($1::bigint[], $2::text[]) AS w (id, name) GROUP BY id
    ) AS added WHERE e.id = added.id
"""


async def write(connection: AsyncConnection, changes: Changes) -> None:
    """Store what locked experiments' reports change, and wake those who follow them once it commits."""
    if changes.names:  # seldom: by itself, since one statement may change a row once
        await connection.exec_driver_sql(_ADD_NAMES, tuple(map(list, zip(*changes.names, strict=True))))
    values: list[Any] = [changes.attempts]
    for table, kinds in _COLUMNS.items():
        rows = getattr(changes, table)
        values += map(list, zip(*rows, strict=True)) if rows else ([] for _ in kinds)
    await connection.exec_driver_sql(_WRITE, tuple(values))
