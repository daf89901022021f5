"""What becomes of reported points: the last values of trials, the best trial, and a segment in the event stream."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.report import encode_float
from service.database.tables import Experiment, Trial
from service.errors import InvalidError
from service.events import repository as events
from service.metrics import repository
from service.metrics.codec import encode
from service.metrics.points import Points, split_key
from service.metrics.reported import ReportedSeries
from service.trials import repository as trials

_LARGE = 2000
"""Points that take long enough to encode to leave the event loop for it."""


async def write(
    session: AsyncSession, experiment: Experiment, series: Sequence[ReportedSeries], rows: dict[int, Trial]
) -> None:
    """Store reported series of a locked experiment and pass them on to those who follow it.

    Args:
        rows: the trials the series name, by number.

    Raises:
        InvalidError: more metric names than a database may hold.
    """
    try:
        ids = await repository.metric_ids(session, (name for s in series for name in s.values), create=True)
    except repository.TooManyNamesError:
        limit = repository.MAX_NAMES
        raise InvalidError(
            f"There are {limit} metric names already; use names without numbers in them.", title="Invalid report"
        ) from None
    points = Points.concat([part for one in series for part in one.points(ids)])
    if not len(points):
        return
    _note_latest(points, rows, {number: name for name, number in ids.items()})
    await session.flush()
    if any(experiment.metric in s.values for s in series):
        best = await trials.best(session, experiment.id, experiment.metric, experiment.mode)
        experiment.best_trial, experiment.best_value = best or (None, None)
    seq = await events.next_number(session, experiment.id)
    large = len(points) > _LARGE
    body = await asyncio.to_thread(encode, points, with_series=True) if large else encode(points, with_series=True)
    await repository.add_segment(session, experiment.id, seq, len(points), body)


def _note_latest(points: Points, rows: dict[int, Trial], names: dict[int, str]) -> None:
    """Trials keep their last value of every metric: of the highest step what was measured last, as everywhere."""
    latest: dict[int, dict[str, Any]] = {}
    settled = points.settled()
    last = settled[settled.runs()[1:] - 1]
    columns = (last.series, last.step, last.time, last.value)
    for key, step, time, value in zip(*(column.tolist() for column in columns), strict=True):
        number, metric_id = split_key(key)
        if number not in latest:
            latest[number] = dict(rows[number].latest)
        known, name = latest[number], names[metric_id]
        if name not in known or _rank_of(known[name]) <= _rank(step, time, value):
            known[name] = {"step": step, "time": time, "value": encode_float(value)}
    for number, values in latest.items():
        rows[number].latest = values


def _rank(step: int, time: float, value: float) -> tuple[int, float, bool, float]:
    """The order of points of one series, as `Points.settled` has it: step, time, value with NaN last."""
    return step, time, math.isnan(value), 0.0 if math.isnan(value) else value


def _rank_of(entry: dict[str, Any]) -> tuple[int, float, bool, float]:
    return _rank(entry["step"], entry["time"], float(entry["value"]))  # float() reads "NaN" and "-Infinity" too
