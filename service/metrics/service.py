"""What reported points mean: the last value of every metric of a trial, and which trial is best. Pure functions."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adadim_core.spec.report import encode_float
from service.metrics.points import Points, split_key

Latest = dict[str, dict[str, Any]]
"""Metric to {step, time, value} of its highest step, as the table of trials keeps it."""


def latest_after(points: Points, known: Mapping[int, Latest], names: Mapping[int, str]) -> dict[int, Latest]:
    """The last values of the trials that have points: of the highest step what was measured last, as everywhere.

    Args:
        known: last values before, by trial number.
        names: of metrics, by their numbers.
    """
    latest: dict[int, Latest] = {}
    settled = points.settled()
    last = settled[settled.runs()[1:] - 1]
    columns = (last.series, last.step, last.time, last.value)
    for key, step, time, value in zip(*(column.tolist() for column in columns), strict=True):
        number, metric_id = split_key(key)
        if number not in latest:
            latest[number] = dict(known[number])
        values, name = latest[number], names[metric_id]
        if name not in values or _rank_of(values[name]) <= _rank(step, time, value):
            values[name] = {"step": step, "time": time, "value": encode_float(value)}
    return latest


def _rank(step: int, time: float, value: float) -> tuple[int, float, bool, float]:
    """The order of points of one series, as `Points.settled` has it: step, time, value with NaN last."""
    return step, time, math.isnan(value), 0.0 if math.isnan(value) else value


def _rank_of(entry: dict[str, Any]) -> tuple[int, float, bool, float]:
    return _rank(entry["step"], entry["time"], float(entry["value"]))  # float() reads "NaN" and "-Infinity" too


@dataclass(frozen=True)
class Candidate:
    """A trial with the last value of the metric that ranks trials."""

    number: int
    value: float

    @classmethod
    def of(cls, number: int, state: str, latest: Latest, metric: str) -> "Candidate | None":
        """None for a trial that cannot be the best: it failed, or has no finite value."""
        value = float(latest[metric]["value"]) if metric in latest and state != "failed" else math.nan
        return cls(number, value) if math.isfinite(value) else None

    def beats(self, other: "Candidate", mode: str) -> bool:
        """Whether it is the better one; of equal ones the first in the plan is."""
        own, theirs = (self.value, other.value) if mode == "max" else (-self.value, -other.value)
        return own > theirs or (own == theirs and self.number < other.number)


def best_after(
    best: Candidate | None, changed: Mapping[int, Candidate | None], mode: str
) -> Candidate | Literal["unknown"] | None:
    """The best trial after some have changed. "unknown": the best one lost ground, and the others must be asked.

    Args:
        best: the best before.
        changed: trials with new values or states, by number.
    """
    found: Candidate | Literal["unknown"] | None = best
    if best is not None and best.number in changed:
        now = changed[best.number]
        found = now if now is not None and (now == best or now.beats(best, mode)) else "unknown"
    if found == "unknown":
        return found
    return best_of((found, *changed.values()), mode)


def best_of(candidates: Iterable[Candidate | None], mode: str) -> Candidate | None:
    """The best of some; None among them counts for nothing."""
    best: Candidate | None = None
    for one in candidates:
        if one is not None and (best is None or one.beats(best, mode)):
            best = one
    return best
