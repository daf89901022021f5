"""The table of trials: one row a trial, with what it has set, where it stands, its last and best values, its speed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.metrics import METRICS
from service.database.tables import Experiment, Trial
from service.exports.parameters import parameter_table
from service.metrics import reading
from service.metrics.points import Points, split_key

_THINNED = 16
"""Points kept of a series: its extremes are always among them."""


async def best_values(session: AsyncSession, experiment: Experiment, trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Of every metric with a better end, and the one that ranks: the best value each trial ever had, by metric.

    The session must be a snapshot.
    """
    higher = {name: known.higher_is_better for name, known in METRICS.items() if known.higher_is_better is not None}
    higher[experiment.metric] = experiment.mode == "max"
    found = await reading.read(session, experiment, trials, list(higher), _THINNED)
    extremes = _extremes(found.points)
    columns: dict[str, list[Any]] = {}
    for metric_id, name in found.names.items():
        pick = 1 if higher[name] else 0
        of_trials = [extremes.get((trial.number, metric_id)) for trial in trials]
        columns[name] = [None if ends is None else ends[pick] for ends in of_trials]
    return columns


def trial_table(experiment: Experiment, trials: Sequence[Trial], best: dict[str, list[Any]]) -> pa.Table:
    """One row a trial, in their order. `last.` and `best.` name the value of a metric; durations are in seconds."""
    reported = {name for trial in trials for name in trial.latest} - {"images_per_s"}  # which has a column of its own
    names = [*(name for name in METRICS if name in reported), *sorted(reported - set(METRICS))]
    table = parameter_table(experiment.spec, trials)
    columns: dict[str, pa.Array] = {
        "state": pa.array([trial.state for trial in trials], pa.string()),
        "epoch": pa.array([trial.epoch for trial in trials], pa.int64()),
        "epochs": pa.array([trial.epochs for trial in trials], pa.int64()),
        "started_at": pa.array([trial.started_at for trial in trials], pa.timestamp("ms", "UTC")),
        "duration_s": pa.array([_duration(trial) for trial in trials], pa.float64()),
        "images_per_s": pa.array([_last(trial, "images_per_s") for trial in trials], pa.float64()),
        "reason": pa.array([trial.reason for trial in trials], pa.string()),
        "error": pa.array([(trial.error or "").partition("\n")[0] or None for trial in trials], pa.string()),
        **{f"last.{name}": pa.array([_last(trial, name) for trial in trials], pa.float64()) for name in names},
        **{f"best.{name}": pa.array(best[name], pa.float64()) for name in METRICS if name in best and name in names},
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _extremes(points: Points) -> dict[tuple[int, int], tuple[float, float]]:
    """Smallest and largest finite value of each series, by trial number and metric id."""
    found = {}
    for start, end in pairwise(points.runs().tolist()):
        values = points.value[start:end]
        values = values[np.isfinite(values)]
        if len(values):
            found[split_key(int(points.series[start]))] = (float(values.min()), float(values.max()))
    return found


def _duration(trial: Trial) -> float | None:
    if trial.started_at is None or trial.ended_at is None:
        return None
    return (trial.ended_at - trial.started_at).total_seconds()


def _last(trial: Trial, name: str) -> float | None:
    return float(trial.latest[name]["value"]) if name in trial.latest else None
