"""Series assembled for reading: chunks, their summaries and the segments not merged yet, as one answer.

What an answer holds depends on the points alone, not on how they lie: a summary stands in for its chunk only where
thinning it gives what thinning the chunk would.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.tables import Experiment, Trial
from service.errors import InvalidError
from service.metrics import codec, repository
from service.metrics.points import Points, bucket_level, series_key, split_key

MAX_RAW_POINTS = 2_000_000
"""Points one answer may hold."""

_SMALL = 4096
"""Bytes of a segment worth remembering decoded: a thousand of them wait to be merged, and each costs as a large one."""
_small = lru_cache(2000)(codec.decode)

_KEPT_OF_A_BUCKET = 4
"""Points that usually stay of a bucket: its ends and its extremes."""


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included, of a column: step, epoch or time. None is open."""

    column: Literal["step", "epoch", "time"] = "step"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.column == "epoch":  # stored as float32, in points and chunks: both must be compared alike
            with np.errstate(over="ignore"):
                for end in ("low", "high"):
                    if (bound := getattr(self, end)) is not None:
                        object.__setattr__(self, end, float(np.float32(bound)))

    @property
    def whole(self) -> bool:
        return self.low is None and self.high is None

    def mask(self, points: Points) -> np.ndarray:
        column = getattr(points, self.column)
        chosen = np.ones(len(points), bool)
        if self.low is not None:
            chosen &= column >= self.low
        if self.high is not None:
            chosen &= column <= self.high
        return chosen

    def of_chunk(self, chunk: Row[Any]) -> tuple[float, float]:
        """The smallest and the largest value a chunk has in this column."""
        if self.column == "step":
            return chunk.first_step, chunk.last_step
        return getattr(chunk, f"min_{self.column}"), getattr(chunk, f"max_{self.column}")

    def misses(self, chunk: Row[Any]) -> bool:
        low, high = self.of_chunk(chunk)
        return (self.low is not None and high < self.low) or (self.high is not None and low > self.high)

    def covers(self, chunk: Row[Any]) -> bool:
        low, high = self.of_chunk(chunk)
        return (self.low is None or low >= self.low) and (self.high is None or high <= self.high)


@dataclass(frozen=True)
class Found:
    """Series in order of trial and metric."""

    points: Points
    """Settled, thinned; `series` keys have the trial's number."""
    totals: dict[int, int]
    """By series key, the points there are in the range."""
    names: dict[int, str]
    """Metric names by number."""


async def read(
    session: AsyncSession,
    experiment: Experiment,
    trials: Sequence[Trial | Row[Any]],
    names: Sequence[str] | None,
    max_points: int | None,
    span: Range = Range(),
) -> Found:
    """Series of some of an experiment's trials within a range. The session must be a snapshot.

    Args:
        names: metrics; None means every one.
        max_points: of a series at most; None means all of them.

    Raises:
        Problem: 422 if the answer would be too large.
    """
    ids = None if names is None else sorted((await repository.metric_ids(session, names)).values())
    numbers = {trial.id: trial.number for trial in trials}
    bodies = [row.body for row in await repository.unmerged_segments(session, experiment.id)]
    tail = await asyncio.to_thread(_tail, bodies, set(numbers.values()), ids)
    steps = {key: (int(part.step[0]), int(part.step[-1])) for key, part in _split(tail)}

    # Chunks at the border of the range, and those that new points lie among, are needed point by point: also those
    # outside of it, where what a chunk holds of a step may be what stands, and the new point in the range not.
    rows: list[Row[Any]] = []
    keys: list[int] = []
    exact: list[int] = []
    for row in await repository.chunk_spans(session, list(numbers), ids):
        key = series_key(numbers[row.trial_id], row.metric_id)
        among = key in steps and steps[key][0] <= row.last_step and steps[key][1] >= row.first_step
        if not among and span.misses(row):
            continue
        if among or not span.covers(row):
            exact.append(len(rows))
        rows.append(row)
        keys.append(key)
    exact_points = await _bodies(session, [rows[k] for k in exact], [keys[k] for k in exact])
    loose = await asyncio.to_thread(_loose, exact_points, tail, span)

    left = sorted(set(range(len(rows))) - set(exact))
    series = _measure([(keys[k], rows[k]) for k in left], loose)
    _refuse_too_large(series, max_points)
    levels = {
        key: None if max_points is None or s.total <= max_points
        else bucket_level(s.first, s.last, max(max_points // _KEPT_OF_A_BUCKET, 1))
        for key, s in series.items()
    }  # fmt: skip
    parts = [loose]
    short = [k for k in left if (level := levels[keys[k]]) is not None and rows[k].level <= level]
    summaries = await repository.chunk_bytes(session, [_key(rows[k]) for k in short], "summary")
    parts.append(codec.decode_summaries([keys[k] for k in short], summaries))
    full = sorted(set(left) - set(short))
    parts.append(await _bodies(session, [rows[k] for k in full], [keys[k] for k in full]))
    points = await asyncio.to_thread(_thin, parts, levels, max_points)
    metric_ids = {split_key(key)[1] for key in series}
    return Found(
        points,
        {key: s.total for key, s in sorted(series.items())},
        await repository.metric_names(session, metric_ids),
    )


async def raw_points(
    session: AsyncSession, experiment: Experiment, trials: Sequence[Trial | Row[Any]], *, chunks_at_once: int = 16
) -> AsyncGenerator[Points]:
    """Every point of some trials in batches, in order of trial, metric and step: for exports of any size.

    The session must be a snapshot, and stay open while the batches are read. Memory holds one batch and what is
    not merged yet. `Points.series` keys have the trial's number (`split_key`).
    """
    numbers = {trial.id: trial.number for trial in trials}
    bodies = [row.body for row in await repository.unmerged_segments(session, experiment.id)]
    tails = dict(_split(await asyncio.to_thread(_tail, bodies, set(numbers.values()), None)))
    for trial in sorted(trials, key=lambda t: t.number):
        rows = await repository.chunk_spans(session, [trial.id], None)
        ids = {row.metric_id for row in rows} | {split_key(k)[1] for k in tails if split_key(k)[0] == trial.number}
        for metric_id in sorted(ids):
            key = series_key(trial.number, metric_id)
            chunks = [row for row in rows if row.metric_id == metric_id]
            tail = tails.get(key, Points.concat([]))
            for at in range(0, len(chunks), chunks_at_once):
                batch = chunks[at : at + chunks_at_once]
                stored = await _bodies(session, batch, [key] * len(batch))
                cut = np.searchsorted(tail.step, batch[-1].last_step, side="right")
                yield Points.concat([stored, tail[:cut]]).settled()
                tail = tail[cut:]
            if len(tail):
                yield tail


@dataclass
class _Extent:
    """How many points a series has in the range, and from where to where."""

    total: int
    first: int
    last: int


def _measure(chunks: Sequence[tuple[int, Row[Any]]], loose: Points) -> dict[int, _Extent]:
    parts = [(key, _Extent(c.points, c.first_step, c.last_step)) for key, c in chunks]
    parts += [(key, _Extent(len(p), int(p.step[0]), int(p.step[-1]))) for key, p in _split(loose)]
    series: dict[int, _Extent] = {}
    for key, part in parts:
        known = series.setdefault(key, _Extent(0, part.first, part.last))
        known.total += part.total
        known.first, known.last = min(known.first, part.first), max(known.last, part.last)
    return series


def _refuse_too_large(series: dict[int, _Extent], max_points: int | None) -> None:
    total = sum(s.total if max_points is None else min(s.total, max_points) for s in series.values())
    if total > MAX_RAW_POINTS:
        raise InvalidError(
            f"The answer would hold up to {total} points; at most {MAX_RAW_POINTS} are given at once. Ask for fewer "
            "trials or metrics, a smaller range or a smaller max_points, or export the experiment.",
            title="Too many points",
        )


def _tail(bodies: Sequence[bytes], trials: set[int], metric_ids: Sequence[int] | None) -> Points:
    """Points not merged yet, of some trials and metrics, settled."""
    points = Points.concat([_small(body) if len(body) <= _SMALL else codec.decode(body) for body in bodies])
    trial, metric = split_key(points.series)  # type: ignore[arg-type]  # arrays as well as numbers
    chosen = np.isin(trial, list(trials))
    if metric_ids is not None:
        chosen &= np.isin(metric, metric_ids)
    return (points if chosen.all() else points[chosen]).settled()


def _split(points: Points) -> list[tuple[int, Points]]:
    bounds = points.runs().tolist()
    pairs = pairwise(bounds)
    return [(int(points.series[start]), points[start:end]) for start, end in pairs]


async def _bodies(session: AsyncSession, rows: Sequence[Row[Any]], keys: Sequence[int]) -> Points:
    found = await repository.chunk_bytes(session, [_key(row) for row in rows], "body")
    return await asyncio.to_thread(
        lambda: Points.concat([codec.decode(body, key) for body, key in zip(found, keys, strict=True)])
    )


def _key(row: Row[Any]) -> repository.ChunkKey:
    return row.trial_id, row.metric_id, row.first_step


def _loose(exact: Points, tail: Points, span: Range) -> Points:
    loose = Points.concat([exact, tail]).settled()
    return loose if span.whole else loose[span.mask(loose)]


def _thin(parts: Sequence[Points], levels: dict[int, int | None], max_points: int | None) -> Points:
    """Each series thinned at its level, or at the next ones while more points stay than asked for."""
    points = Points.concat(parts).settled()
    if max_points is None:
        return points
    while True:
        bounds = points.runs()
        keys = points.series[bounds[:-1]].tolist()
        counts = np.diff(bounds)
        if all(levels[key] is None for key in keys):
            return points
        # A series that is shown whole is thinned into buckets of one step: nothing goes.
        level = np.array([levels[key] or 0 for key in keys])
        points = points.thinned(np.repeat(level, counts))
        bounds = points.runs()
        over = [
            key for key, n in zip(keys, np.diff(bounds).tolist(), strict=True)
            if n > max_points and levels[key] is not None and levels[key] < 63  # type: ignore[operator]
        ]  # fmt: skip
        if not over:
            return points
        for key in over:
            levels[key] += 1  # type: ignore[operator]
