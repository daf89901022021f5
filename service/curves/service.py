"""Makes the curves of configurations from stored points.

Owns none of the statistics: adadim_core/answers does.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import orjson
from sqlalchemy import Row

from adadim_core.answers.answer import Question
from adadim_core.answers.configurations import group
from adadim_core.answers.curves import Course, band, positions
from service.answers.service import question, trial_row
from service.metrics.points import split_key
from service.metrics.reading import Found

Axis = Literal["step", "epoch", "time"]

MOST_POINTS_READ = 1_000_000
"""Of all series together, from which the curves are made."""


def points_of_each(series: int, wanted: int) -> int:
    """Points to read of a series: some more than the curve has, as thinning keeps the extremes."""
    return max(8, min(4 * wanted, MOST_POINTS_READ // max(series, 1)))


def curves_json(
    experiment_id: int, seq: int, spec: Mapping[str, Any], trials: Sequence[Row[Any]], found: Found, by: Axis, most: int
) -> bytes:
    """`CurvesRead` as JSON: numbers go from arrays to text without a Python object for each."""
    places = _configurations(question(spec), trials)
    courses: dict[str, dict[int, list[Course]]] = defaultdict(lambda: defaultdict(list))
    for start, end in pairwise(found.points.runs().tolist()):
        number, metric_id = split_key(int(found.points.series[start]))
        course = _course(getattr(found.points, by)[start:end], found.points.value[start:end], by)
        if number in places:
            courses[found.names[metric_id]][places[number]].append(course)
    told, curves = {}, []
    for metric, of_metric in courses.items():
        where = positions([course for of_one in of_metric.values() for course in of_one], most)
        told[metric] = where
        for configuration, of_one in sorted(of_metric.items()):
            found_band = band(of_one, where)
            if found_band is None:
                continue
            several = len(of_one) > 1 and bool((found_band.n > 1).any())
            curves.append(
                {
                    "metric": metric,
                    "configuration": configuration,
                    "first": found_band.first,
                    "n": found_band.n,
                    "mean": _short(found_band.mean),
                    "low": _short(found_band.low) if several else None,
                    "high": _short(found_band.high) if several else None,
                }
            )
    answer = {"experiment_id": experiment_id, "seq": seq, "positions": told, "curves": curves}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _configurations(asked: Question, trials: Sequence[Row[Any]]) -> dict[int, int]:
    """Of each trial its configuration as in the answer, by number. One that failed counts if no other has points."""
    found = group(
        map(trial_row, trials), metric=asked.metric, default_seed=asked.default_seed, chosen=asked.chosen,
        label=lambda _: "",
    )  # fmt: skip
    places: dict[int, int] = {}
    for place, configuration in enumerate(found):
        sound = [trial for trial in configuration.trials if trial.state != "failed" and trial.metrics]
        places |= {trial.number: place for trial in sound or configuration.trials}
    return places


def _course(at: np.ndarray, values: np.ndarray, by: Axis) -> Course:
    at = at.astype(float)
    if by == "time":
        at = np.maximum.accumulate(at - at[0])  # a clock may have been set back
    if (at[1:] > at[:-1]).all():
        return Course(at, values)
    order = np.argsort(at, kind="stable")
    at, values = at[order], values[order]
    last = np.append(np.diff(at) > 0, True)  # of several points at one position, as after a new attempt
    return Course(at[last], values[last])


def _short(values: np.ndarray) -> np.ndarray:
    """Single precision has the digits that a curve needs in half of the text; NaN becomes null."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    found[~np.isfinite(found)] = np.nan
    return found
