"""What becomes of reported points, and how series are put together for reading."""

import itertools
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.report import Series, encode_float
from service.database.tables import Experiment, Trial
from service.events import repository as events
from service.metrics import repository
from service.metrics.schemas import MetricsRead, SeriesRead
from service.trials import repository as trials


async def write(
    session: AsyncSession, experiment: Experiment, series: Sequence[Series], rows: dict[int, Trial]
) -> None:
    """Store reported series of a locked experiment and pass them on to those who follow it.

    Args:
        rows: the trials the series name, by number.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("trial_ids", "metric_ids", "steps", "epochs", "times", "values")
    }
    ids = await repository.metric_ids(session, (name for s in series for name in s.values))
    live: list[dict[str, Any]] = []
    for part in series:
        trial = rows[part.trial]
        latest = dict(trial.latest)
        for name, values in part.values.items():
            measured = [k for k, value in enumerate(values) if value is not None]
            if not measured:
                continue
            steps = [part.steps[k] for k in measured]
            found = [float(values[k]) for k in measured]  # type: ignore[arg-type]  # None is left out above
            columns["trial_ids"] += [trial.id] * len(measured)
            columns["metric_ids"] += [ids[name]] * len(measured)
            columns["steps"] += steps
            columns["epochs"] += [part.epochs[k] for k in measured]
            columns["times"] += [part.times[k] for k in measured]
            columns["values"] += found
            # Of a step given twice the one measured later counts, as it does in the table.
            times = [part.times[k] for k in measured]
            step, time, value = max(reversed(list(zip(steps, times, found, strict=True))), key=lambda point: point[:2])
            if name not in latest or (latest[name]["step"], latest[name]["time"]) <= (step, time):
                latest[name] = {"step": step, "time": time, "value": encode_float(value)}
            live.append(
                {
                    "trial": part.trial,
                    "metric": name,
                    "steps": steps,
                    "epochs": [encode_float(part.epochs[k]) for k in measured],
                    "times": times,
                    "values": [encode_float(v) for v in found],
                }
            )
        trial.latest = latest
    if not live:
        return
    await repository.upsert_points(session, **columns)
    await session.flush()
    if any(experiment.metric in s.values for s in series):
        best = await trials.best(session, experiment.id, experiment.metric, experiment.mode)
        experiment.best_trial, experiment.best_value = best or (None, None)
    await events.append(session, experiment.id, "points", {"series": live})


async def read(
    session: AsyncSession,
    experiment: Experiment,
    rows: Sequence[Trial],
    names: Sequence[str] | None,
    max_points: int,
) -> MetricsRead:
    """Series of the given trials. `names` None means every metric."""
    numbers = {trial.id: trial.number for trial in rows}
    points = await repository.downsampled(session, list(numbers), names, max_points)
    series = []
    for (trial_id, metric), group in itertools.groupby(points, key=lambda p: (p.trial_id, p.metric)):
        found = list(group)
        series.append(
            SeriesRead(
                trial=numbers[trial_id],
                metric=metric,
                steps=[p.step for p in found],
                epochs=[p.epoch for p in found],
                times=[p.time for p in found],
                values=[p.value for p in found],
                total=found[0].total,
            )
        )
    return MetricsRead(experiment_id=experiment.id, seq=experiment.seq, series=series)
