"""Queries on points: idempotent insert, downsampled select."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Metric


async def metric_ids(session: AsyncSession, names: Iterable[str]) -> dict[str, int]:
    """The number of every name; names seen for the first time get one."""
    wanted = sorted(set(names))
    known = {m.name: m.id for m in await session.scalars(select(Metric).where(Metric.name.in_(wanted)))}
    if len(known) < len(wanted):
        missing = [{"name": name} for name in wanted if name not in known]
        await session.execute(upsert(Metric).values(missing).on_conflict_do_nothing())
        known = {m.name: m.id for m in await session.scalars(select(Metric).where(Metric.name.in_(wanted)))}
    return known


async def upsert_points(
    session: AsyncSession,
    *,
    trial_ids: Sequence[int],
    metric_ids: Sequence[int],
    steps: Sequence[int],
    epochs: Sequence[float],
    times: Sequence[float],
    values: Sequence[float],
) -> None:
    """Write points given in columns. Of a point that is there already the value measured last stands.

    So the order of delivery does not matter: what an earlier attempt left in its spool may come late.
    """
    await session.execute(
        text("""
            INSERT INTO points (trial_id, metric_id, step, epoch, time, value)
            SELECT DISTINCT ON (trial_id, metric_id, step) trial_id, metric_id, step, epoch, time, value
            FROM unnest(
                CAST(:trial_ids AS bigint[]), CAST(:metric_ids AS smallint[]), CAST(:steps AS bigint[]),
                CAST(:epochs AS real[]), CAST(:times AS float8[]), CAST(:values AS float8[])
            ) WITH ORDINALITY AS point (trial_id, metric_id, step, epoch, time, value, position)
            ORDER BY trial_id, metric_id, step, time DESC, position DESC
            ON CONFLICT (trial_id, metric_id, step)
            DO UPDATE SET epoch = excluded.epoch, time = excluded.time, value = excluded.value
            WHERE excluded.time >= points.time
        """),
        {
            "trial_ids": trial_ids,
            "metric_ids": metric_ids,
            "steps": steps,
            "epochs": epochs,
            "times": times,
            "values": values,
        },
    )


async def downsampled(
    session: AsyncSession, trial_ids: Sequence[int], names: Sequence[str] | None, max_points: int
) -> Sequence[Row[Any]]:
    """Points of the given trials, at most about `max_points` a series, in order of trial, metric and step.

    A longer series is cut into max_points / 4 buckets of equal numbers of points; of each bucket its first and
    last point, its smallest and its largest value stay (NaN counts as largest), so that no spike is lost.
    The same points give the same answer.
    """
    rows = await session.execute(
        text("""
            WITH numbered AS (
                SELECT p.*, m.name AS metric,
                    row_number() OVER series - 1 AS position,
                    count(*) OVER (PARTITION BY p.trial_id, p.metric_id) AS total
                FROM points AS p JOIN metrics AS m ON m.id = p.metric_id
                WHERE p.trial_id = ANY(:trial_ids)
                    AND (CAST(:names AS text[]) IS NULL OR m.name = ANY(CAST(:names AS text[])))
                WINDOW series AS (PARTITION BY p.trial_id, p.metric_id ORDER BY p.step)
            ), bucketed AS (
                SELECT *, position * greatest(:max_points / 4, 1) / total AS bucket FROM numbered
            ), ranked AS (
                SELECT *,
                    row_number() OVER (part ORDER BY step) AS first,
                    row_number() OVER (part ORDER BY step DESC) AS last,
                    row_number() OVER (part ORDER BY value, step) AS smallest,
                    row_number() OVER (part ORDER BY value DESC, step) AS largest
                FROM bucketed WHERE total > :max_points
                WINDOW part AS (PARTITION BY trial_id, metric_id, bucket)
            )
            SELECT trial_id, metric, step, epoch, time, value, total FROM numbered WHERE total <= :max_points
            UNION ALL
            SELECT trial_id, metric, step, epoch, time, value, total FROM ranked
            WHERE 1 IN (first, last, smallest, largest)
            ORDER BY trial_id, metric, step
        """),
        {"trial_ids": list(trial_ids), "names": list(names) if names is not None else None, "max_points": max_points},
    )
    return rows.all()
