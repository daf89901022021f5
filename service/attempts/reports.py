"""The statements behind workers' reports: they read what reports concern and write what they change.

Every report asks them, so they go to the driver as they are: putting statements together costs more than asking.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import notify

_LOCK = """
    SELECT 1 FROM attempts AS a JOIN experiments AS e ON e.id = a.experiment_id
    WHERE a.id = $1 FOR NO KEY UPDATE OF e, a
"""


async def lock(connection: AsyncConnection, attempt_id: int) -> None:
    """Nobody else changes an attempt or its experiment until the transaction ends.

    The experiment's lock orders reports, the dispatcher's steps and users' actions.
    """
    await connection.exec_driver_sql(_LOCK, (attempt_id,))


_READ = """
    SELECT a.id AS attempt_id, a.number, a.token_hash, a.state AS attempt_state, a.ended_at IS NOT NULL AS over,
        e.id AS experiment_id, e.attempt AS current, e.state, e.desired_state, e.state_reason, e.seq, e.metric, e.mode,
        e.trial_count, e.trials_done, e.best_trial, e.best_value,
        t.id AS trial_id, t.number AS trial_number, t.state AS trial_state, t.epoch, t.epochs, t.error, t.reason,
        t.params::text AS params, t.latest::text AS latest,
        (SELECT json_object_agg(name, id)::text FROM metrics WHERE name = ANY($3::text[])) AS metrics
    FROM unnest($1::bigint[], $2::int[]) AS w (attempt_id, trial_number)
    JOIN attempts AS a ON a.id = w.attempt_id JOIN experiments AS e ON e.id = a.experiment_id
    LEFT JOIN trials AS t ON t.experiment_id = e.id AND t.number = w.trial_number
"""


async def read(
    connection: AsyncConnection, keys: Sequence[tuple[int, int | None]], metrics: Collection[str]
) -> Sequence[Row[Any]]:
    """Attempts with their experiments and a trial each, as they are in one snapshot; JSON comes as text.

    Args:
        keys: attempts with numbers of trials; None for the attempt alone.
        metrics: names whose numbers are wanted; each row has them.
    """
    columns = map(list, zip(*keys, strict=True))
    return (await connection.exec_driver_sql(_READ, (*columns, [*metrics]))).all()


_BEST_OF_OTHERS = """
    SELECT s.experiment_id, best.number, best.value
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS s (experiment_id, metric, mode)
    CROSS JOIN LATERAL (
        SELECT number, value FROM (
            SELECT number, (latest -> s.metric ->> 'value')::float8 AS value FROM trials AS t
            WHERE t.experiment_id = s.experiment_id AND latest ? s.metric AND state <> 'failed' AND NOT EXISTS (
                SELECT FROM unnest($4::bigint[], $5::int[]) AS w (experiment_id, number)
                WHERE w.experiment_id = t.experiment_id AND w.number = t.number
            )
        ) AS last WHERE value NOT IN ('NaN', 'Infinity', '-Infinity')
        ORDER BY CASE s.mode WHEN 'max' THEN -value ELSE value END, number LIMIT 1
    ) AS best
"""


async def best_of_others(
    connection: AsyncConnection, searches: Sequence[tuple[int, str, str]], without: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, float]]:
    """As `trials.repository.best`, of many experiments and without some trials: number and value by experiment.

    Args:
        searches: experiment, metric, mode.
        without: experiment and number of trials that do not count.
    """
    columns = [*map(list, zip(*searches, strict=True)), *map(list, zip(*without, strict=True))]
    found = await connection.exec_driver_sql(_BEST_OF_OTHERS, tuple(columns))
    return {row.experiment_id: (row.number, row.value) for row in found}


@dataclass
class Changes:
    """What reports change, as rows of columns."""

    attempts: list[tuple[int, int, bytes]] = field(default_factory=list)
    """id, and what must be so still: seq of the experiment, token_hash"""
    experiments: list[tuple[int, int, int, int | None, float | None, str | None]] = field(default_factory=list)
    """id, seq, trials_done, best_trial, best_value, state_reason"""
    trials: list[tuple[Any, ...]] = field(default_factory=list)
    """experiment_id, id, state, epoch, epochs, error, reason, params, latest, and whether it ran, moved, ended.

    None keeps params and latest as they are.
    """
    segments: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """experiment_id, seq, points, body"""
    events: list[tuple[int, int, str, str]] = field(default_factory=list)
    """experiment_id, seq, kind, payload"""
    names: list[tuple[int, str]] = field(default_factory=list)
    """experiment_id, metric it has from now on"""


_COLUMNS = {
    "attempts": ("bigint", "bigint", "bytea"),
    "trials": ("bigint", "bigint", "text", "int", "int", "text", "text", "text", "text", "bool", "bool", "bool"),
    "segments": ("bigint", "bigint", "int", "bytea"),
    "events": ("bigint", "bigint", "text", "text"),
    "experiments": ("bigint", "bigint", "int", "int", "float8", "text"),
}
"""Types of the columns of `Changes`, in the order in which `_WRITE` has them as parameters."""


def _unnest(table: str) -> str:
    tables = [*_COLUMNS]
    first = 1 + sum(len(_COLUMNS[before]) for before in tables[: tables.index(table)])
    return f"unnest({', '.join(f'${first + n}::{kind}[]' for n, kind in enumerate(_COLUMNS[table]))})"


_WRITE = f"""
    WITH guarded AS (
        SELECT a.id AS attempt_id, e.id
        FROM {_unnest("attempts")} AS w (id, seq, token_hash)
        JOIN attempts AS a ON a.id = w.id AND a.ended_at IS NULL AND a.token_hash = w.token_hash
        JOIN experiments AS e ON e.id = a.experiment_id AND e.attempt = a.number AND e.seq = w.seq
        FOR NO KEY UPDATE OF e, a SKIP LOCKED
    ), heard AS (
        UPDATE attempts AS a SET heartbeat_at = now(), started_at = coalesce(started_at, now()),
            state = CASE state WHEN 'starting' THEN 'running' ELSE state END
        FROM guarded AS g WHERE a.id = g.attempt_id
    ), changed_trials AS (
        UPDATE trials AS t SET state = w.state, epoch = w.epoch, epochs = w.epochs, error = w.error, reason = w.reason,
            params = coalesce(w.params::jsonb, t.params), latest = coalesce(w.latest::jsonb, t.latest),
            started_at = CASE WHEN w.ran THEN coalesce(t.started_at, now()) ELSE t.started_at END,
            ended_at = CASE WHEN NOT w.moved THEN t.ended_at WHEN w.ended THEN now() END
        FROM {_unnest("trials")} AS w
            (experiment_id, id, state, epoch, epochs, error, reason, params, latest, ran, moved, ended)
        JOIN guarded AS g ON g.id = w.experiment_id WHERE t.id = w.id
    ), new_segments AS (
        INSERT INTO segments (experiment_id, seq, points, body)
        SELECT w.* FROM {_unnest("segments")} AS w (experiment_id, seq, points, body)
        JOIN guarded AS g ON g.id = w.experiment_id
    ), new_events AS (
        INSERT INTO events (experiment_id, seq, kind, payload)
        SELECT experiment_id, seq, kind, payload::jsonb
        FROM {_unnest("events")} AS w (experiment_id, seq, kind, payload)
        JOIN guarded AS g ON g.id = w.experiment_id
    ), changed_experiments AS (
        UPDATE experiments AS e SET seq = w.seq, trials_done = w.trials_done, best_trial = w.best_trial,
            best_value = w.best_value, state_reason = w.state_reason
        FROM {_unnest("experiments")} AS w (id, seq, trials_done, best_trial, best_value, state_reason)
        JOIN guarded AS g ON g.id = w.id WHERE e.id = w.id RETURNING e.id
    )
    SELECT g.attempt_id, CASE WHEN c.id IS NOT NULL THEN pg_notify('{notify.EVENTS}', c.id::text) END
    FROM guarded AS g LEFT JOIN changed_experiments AS c ON c.id = g.id
"""  # noqa: S608 - made of constants only
_ADD_NAMES = """
    UPDATE experiments AS e SET metric_names = e.metric_names || added.names FROM (
        SELECT id, array_agg(name) AS names FROM unnest($1::bigint[], $2::text[]) AS w (id, name) GROUP BY id
    ) AS added WHERE e.id = added.id
"""


async def write(connection: AsyncConnection, changes: Changes) -> set[int]:
    """Store what reports change and wake those who follow the experiments once it commits; which attempts are stored.

    Left out are those whose experiments are locked, or are not any more as `changes.attempts` says: they are locked
    while they are written, without ever waiting, so that numbers of events are gapless and commit in their order.
    """
    if changes.names:  # seldom: by itself, since one statement may change a row once
        await connection.exec_driver_sql(_ADD_NAMES, tuple(map(list, zip(*changes.names, strict=True))))
    values: list[Any] = []
    for table, kinds in _COLUMNS.items():
        rows = getattr(changes, table)
        values += map(list, zip(*rows, strict=True)) if rows else ([] for _ in kinds)
    return {row.attempt_id for row in await connection.exec_driver_sql(_WRITE, tuple(values))}
