"""The course of a metric over training by configuration: mean over its trials and a band.

Owns where curves are told and how replicates are brought together. Does not own how points are stored or thinned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adadim_core.answers.estimates import ALPHA
from adadim_core.answers.student import Floats, quantile


@dataclass(frozen=True)
class Course:
    """One metric of one trial: where it was measured, ascending, and what it was. Both (N,), N >= 1."""

    at: Floats
    values: Floats


@dataclass(frozen=True)
class Band:
    """A configuration's course at consecutive positions. All (P,)."""

    first: int
    """Of the positions, the one of the first entry."""
    n: np.ndarray
    """Trials that were measured so far."""
    mean: Floats
    """NaN where one of them is not a number."""
    low: Floats
    high: Floats
    """95 % t interval of the mean; NaN where n < 2."""


def positions(courses: Sequence[Course], most: int) -> Floats:
    """Where curves are told: where something was measured, evenly thinned to at most `most`, ends included."""
    found: Floats = np.unique(np.concatenate([course.at for course in courses])) if courses else np.empty(0)
    if len(found) > most:
        found = found[np.unique(np.linspace(0, len(found) - 1, most).round().astype(int))]
    return found


def band(courses: Sequence[Course], where: Floats) -> Band | None:
    """Mean and 95 % t interval over the trials of a configuration, position by position.

    Between its own measurements a trial counts with the line through them, outside of them not at all.

    Args:
        courses: of its trials.
        where: (P,) ascending.

    Returns:
        The band from the first to the last position that a trial reaches; None if none does.
    """
    if len(courses) == 1:
        return _alone(courses[0], where)
    values = np.full((len(courses), len(where)), np.nan)
    there = np.zeros(values.shape, bool)
    for row, course in enumerate(courses):
        there[row] = (where >= course.at[0]) & (where <= course.at[-1])
        values[row, there[row]] = np.interp(where[there[row]], course.at, course.values)
    reached = np.flatnonzero(there.any(axis=0))
    if not len(reached):
        return None
    span = slice(int(reached[0]), int(reached[-1]) + 1)
    there, values = there[:, span], np.where(there, values, 0.0)[:, span]
    n = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = values.sum(axis=0) / n
        squares = np.where(there, values - mean, 0.0) ** 2
        error = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
        factors = np.array([quantile(ALPHA, k - 1) if k > 1 else np.nan for k in range(len(courses) + 1)])
        half = factors[n] * error
    mean[~np.isfinite(mean)] = np.nan
    half[~np.isfinite(half)] = np.nan
    return Band(span.start, n, mean, mean - half, mean + half)


def _alone(course: Course, where: Floats) -> Band | None:
    """The band of a single trial, which a sweep may have thousands of: its values."""
    first, last = np.searchsorted(where, course.at[0]), np.searchsorted(where, course.at[-1], side="right")
    if first == last:
        return None
    mean = np.interp(where[first:last], course.at, course.values)
    mean[~np.isfinite(mean)] = np.nan
    unknown = np.full(len(mean), np.nan)
    return Band(int(first), np.ones(len(mean), int), mean, unknown, unknown)
