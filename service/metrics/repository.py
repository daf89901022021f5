"""Queries on points: segments in the order they came, chunks by series, names of metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Chunk, Experiment, Metric
from service.metrics.chunks import NewChunk

MAX_NAMES = 1_000
"""Metrics one experiment may have: more are a mistake (a number in the name), and no other experiment's to suffer."""

ChunkKey = tuple[int, int, int]
"""Trial id, metric id, first step."""


async def metric_ids(session: AsyncSession, names: Iterable[str], *, create: bool = False) -> dict[str, int]:
    """The number of every name. With `create`, names seen for the first time get one."""
    wanted = sorted(set(names))
    known = await _known_ids(session, wanted)
    if create and len(known) < len(wanted):
        missing = [{"name": name} for name in wanted if name not in known]
        await session.execute(upsert(Metric).values(missing).on_conflict_do_nothing())
        known = await _known_ids(session, wanted)
    return known


async def _known_ids(session: AsyncSession, names: Sequence[str]) -> dict[str, int]:
    rows = await session.execute(
        text("SELECT name, id FROM metrics WHERE name = ANY(CAST(:names AS text[]))"), {"names": list(names)}
    )
    return {row.name: row.id for row in rows}


async def names_of_experiment(session: AsyncSession, experiment_id: int) -> set[str]:
    """The metrics an experiment has had."""
    return set((await session.scalars(select(Experiment.metric_names).where(Experiment.id == experiment_id))).one())


async def metric_names(session: AsyncSession, ids: Iterable[int] | None = None) -> dict[int, str]:
    """The name of every metric number, or of the given ones."""
    query = select(Metric.id, Metric.name)
    if ids is not None:
        query = query.where(Metric.id.in_(list(ids)))
    return {row.id: row.name for row in await session.execute(query)}


# -- segments -----------------------------------------------------------------------------------------------------


async def add_segment(session: AsyncSession, experiment_id: int, seq: int, points: int, body: bytes) -> None:
    """Store reported points at their place in the event stream."""
    await session.execute(
        text("INSERT INTO segments (experiment_id, seq, points, body) VALUES (:experiment_id, :seq, :points, :body)"),
        {"experiment_id": experiment_id, "seq": seq, "points": points, "body": body},
    )


async def segments_after(
    session: AsyncSession, experiment_id: int, seq: int, limit: int, max_points: int
) -> Sequence[Row[Any]]:
    """Segments that follow event `seq`, in order: seq, points, body. At least one, up to `max_points` points."""
    rows = await session.execute(
        text("""
            SELECT seq, points, body FROM (
                SELECT seq, points, body, sum(points) OVER (ORDER BY seq) - points AS before FROM (
                    SELECT seq, points, body FROM segments
                    WHERE experiment_id = :experiment_id AND seq > :seq ORDER BY seq LIMIT :limit
                ) AS following
            ) AS counted WHERE before < :max_points ORDER BY seq
        """),
        {"experiment_id": experiment_id, "seq": seq, "limit": limit, "max_points": max_points},
    )
    return rows.all()


async def unmerged_segments(
    session: AsyncSession, experiment_id: int, max_points: int | None = None
) -> Sequence[Row[Any]]:
    """Segments not in chunks yet, oldest first: seq, points, body. At least one, up to `max_points` points."""
    rows = await session.execute(
        text("""
            SELECT seq, points, body FROM (
                SELECT seq, points, body, sum(points) OVER (ORDER BY seq) - points AS before
                FROM segments WHERE experiment_id = :experiment_id AND merged_at IS NULL
            ) AS tail WHERE CAST(:max_points AS bigint) IS NULL OR before < :max_points ORDER BY seq
        """),
        {"experiment_id": experiment_id, "max_points": max_points},
    )
    return rows.all()


async def tails(session: AsyncSession) -> Sequence[Row[Any]]:
    """Of every experiment with unmerged segments: experiment_id, segments, points, idle seconds since the last."""
    rows = await session.execute(
        text("""
            SELECT experiment_id, count(*) AS segments, sum(points) AS points,
                CAST(extract(epoch FROM clock_timestamp() - max(at)) AS float8) AS idle
            FROM segments WHERE merged_at IS NULL GROUP BY experiment_id ORDER BY points DESC
        """)
    )
    return rows.all()


async def lock_for_merging(session: AsyncSession, experiment_id: int) -> bool:
    """Lock the merging of this experiment until the transaction ends. False if another replica holds the lock."""
    found = await session.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"merge:{experiment_id}"}
    )
    return bool(found.scalar_one())


async def mark_merged(session: AsyncSession, experiment_id: int, seqs: Sequence[int]) -> None:
    """These segments' points are in chunks now."""
    await session.execute(
        text("""
            UPDATE segments SET merged_at = clock_timestamp()
            WHERE experiment_id = :experiment_id AND seq = ANY(CAST(:seqs AS bigint[]))
        """),
        {"experiment_id": experiment_id, "seqs": list(seqs)},
    )


async def drop_merged(session: AsyncSession, older_than_s: float, limit: int) -> int:
    """Delete segments of one experiment merged `older_than_s` ago, and record up to which event its points are gone.

    Call it in a transaction each until it gives 0.
    """
    age = {"age": older_than_s}
    oldest = await session.execute(
        text("""
            SELECT experiment_id FROM segments WHERE merged_at < clock_timestamp() - make_interval(secs => :age)
            ORDER BY merged_at LIMIT 1
        """),
        age,
    )
    # The experiment's lock first, as everywhere: who deletes an experiment holds it and waits for its segments.
    experiment = await session.get(Experiment, oldest.scalar_one_or_none() or 0, with_for_update=True)
    if experiment is None:
        return 0
    gone = await session.execute(
        text("""
            DELETE FROM segments WHERE experiment_id = :experiment_id AND seq = ANY(ARRAY(
                SELECT seq FROM segments
                WHERE experiment_id = :experiment_id AND merged_at < clock_timestamp() - make_interval(secs => :age)
                ORDER BY seq LIMIT :limit
            )) RETURNING seq
        """),
        age | {"experiment_id": experiment.id, "limit": limit},
    )
    seqs = gone.scalars().all()
    experiment.merged_seq = max(experiment.merged_seq, *seqs, 0)
    return len(seqs)


# -- chunks -------------------------------------------------------------------------------------------------------


async def chunk_spans(
    session: AsyncSession, trial_ids: Sequence[int], metric_ids: Sequence[int] | None
) -> Sequence[Row[Any]]:
    """Every chunk of the given trials (and metrics) in order of trial, metric and step, without its points."""
    query = select(
        Chunk.trial_id, Chunk.metric_id, Chunk.first_step, Chunk.last_step, Chunk.points, Chunk.min_epoch,
        Chunk.max_epoch, Chunk.min_time, Chunk.max_time, Chunk.level,
    ).where(Chunk.trial_id.in_(list(trial_ids)))  # fmt: skip
    if metric_ids is not None:
        query = query.where(Chunk.metric_id.in_(list(metric_ids)))
    query = query.order_by(Chunk.trial_id, Chunk.metric_id, Chunk.first_step)
    return list(await session.execute(query))


async def chunks_to_merge(
    session: AsyncSession, series: Sequence[tuple[int, int]], first_steps: Sequence[int]
) -> Sequence[Row[Any]]:
    """Of each series (trial id, metric id): chunks that end at its first new step or later, and the last few."""
    rows = await session.execute(
        text("""
            SELECT c.trial_id, c.metric_id, c.first_step, c.last_step, c.points
            FROM unnest(CAST(:trial_ids AS bigint[]), CAST(:metric_ids AS int[]), CAST(:first_steps AS bigint[]))
                AS s (trial_id, metric_id, first_step)
            CROSS JOIN LATERAL (
                SELECT * FROM (
                    SELECT trial_id, metric_id, first_step, last_step, points,
                        row_number() OVER (ORDER BY first_step DESC) AS from_end
                    FROM chunks WHERE trial_id = s.trial_id AND metric_id = s.metric_id
                ) AS all_of WHERE from_end <= 12 OR last_step >= s.first_step
            ) AS c ORDER BY 1, 2, 3
        """),
        {
            "trial_ids": [trial_id for trial_id, _ in series],
            "metric_ids": [metric_id for _, metric_id in series],
            "first_steps": list(first_steps),
        },
    )
    return rows.all()


async def chunk_bytes(session: AsyncSession, keys: Sequence[ChunkKey], column: str) -> list[bytes]:
    """The `body` or `summary` of each chunk, in the order given. Raises LookupError if this snapshot lacks one."""
    if not keys:
        return []
    rows = await session.execute(
        text(f"""
            SELECT c.{column} FROM unnest(
                CAST(:trial_ids AS bigint[]), CAST(:metric_ids AS int[]), CAST(:first_steps AS bigint[])
            ) WITH ORDINALITY AS k (trial_id, metric_id, first_step, position)
            JOIN chunks AS c USING (trial_id, metric_id, first_step) ORDER BY position
        """),  # noqa: S608 - the column is one of two words of ours
        _key_columns(keys),
    )
    found = list(rows.scalars())
    if len(found) != len(keys):
        raise LookupError(f"{len(keys)} chunks were there, {len(found)} are")
    return found


async def delete_chunks(session: AsyncSession, keys: Sequence[ChunkKey]) -> None:
    """Remove chunks that new ones replace."""
    if keys:
        await session.execute(
            text("""
                DELETE FROM chunks AS c USING unnest(
                    CAST(:trial_ids AS bigint[]), CAST(:metric_ids AS int[]), CAST(:first_steps AS bigint[])
                ) AS k (trial_id, metric_id, first_step)
                WHERE c.trial_id = k.trial_id AND c.metric_id = k.metric_id AND c.first_step = k.first_step
            """),
            _key_columns(keys),
        )


async def add_chunks(session: AsyncSession, chunks: Sequence[tuple[int, int, NewChunk]]) -> None:
    """Store chunks: trial id, metric id, chunk."""
    if not chunks:
        return
    names = [f.name for f in fields(NewChunk)]
    columns: dict[str, list[Any]] = {name: [getattr(chunk, name) for _, _, chunk in chunks] for name in names}
    columns["trial_ids"] = [trial_id for trial_id, _, _ in chunks]
    columns["metric_ids"] = [metric_id for _, metric_id, _ in chunks]
    await session.execute(
        text("""
            INSERT INTO chunks (trial_id, metric_id, first_step, last_step, points, min_epoch, max_epoch,
                min_time, max_time, level, summary, body)
            SELECT * FROM unnest(CAST(:trial_ids AS bigint[]), CAST(:metric_ids AS int[]),
                CAST(:first_step AS bigint[]), CAST(:last_step AS bigint[]), CAST(:points AS int[]),
                CAST(:min_epoch AS real[]), CAST(:max_epoch AS real[]), CAST(:min_time AS float8[]),
                CAST(:max_time AS float8[]), CAST(:level AS smallint[]), CAST(:summary AS bytea[]),
                CAST(:body AS bytea[]))
        """),
        columns,
    )


def _key_columns(keys: Sequence[ChunkKey]) -> dict[str, list[int]]:
    return {
        "trial_ids": [trial_id for trial_id, _, _ in keys],
        "metric_ids": [metric_id for _, metric_id, _ in keys],
        "first_steps": [first_step for _, _, first_step in keys],
    }


# -- retention ----------------------------------------------------------------------------------------------------


async def delete_points(session: AsyncSession, experiment_id: int, limit: int) -> int:
    """Delete up to `limit` chunks and segments of an experiment; how many there were. Locks no writer.

    Call it in a transaction each until it gives 0: then deleting the experiment itself is quick.
    """
    chunks = await session.execute(
        text("""
            DELETE FROM chunks WHERE ctid = ANY(ARRAY(
                SELECT chunks.ctid FROM chunks JOIN trials ON trials.id = trial_id
                WHERE trials.experiment_id = :experiment_id LIMIT :limit
            ))
        """),
        {"experiment_id": experiment_id, "limit": limit},
    )
    segments = await session.execute(
        text("""
            DELETE FROM segments WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM segments WHERE experiment_id = :experiment_id LIMIT :limit
            ))
        """),
        {"experiment_id": experiment_id, "limit": limit},
    )
    return int(chunks.rowcount) + int(segments.rowcount)  # type: ignore[attr-defined]


async def aged(session: AsyncSession, days: float, limit: int) -> Sequence[int]:
    """Experiments that ended `days` ago and still have points."""
    rows = await session.execute(
        text("""
            SELECT id FROM experiments
            WHERE ended_at < now() - make_interval(secs => :seconds) AND (
                EXISTS (SELECT FROM segments WHERE experiment_id = experiments.id)
                OR EXISTS (SELECT FROM chunks JOIN trials ON trials.id = trial_id
                           WHERE trials.experiment_id = experiments.id)
            ) ORDER BY ended_at LIMIT :limit
        """),
        {"seconds": days * 86400.0, "limit": limit},
    )
    return list(rows.scalars())
