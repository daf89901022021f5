"""The search algorithms: how each picks the values of trials, and its words.

Owns the algorithms that know all values before anything runs. One that learns from trials leaves the values open
(`learns`); it chooses in workers/sweep/tpe.py.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adadim_core.spec.halton import coordinate
from adadim_core.spec.space import assign, combinations, distribution_names

Assignments = Callable[[Mapping[str, Any], int], Iterator[dict[str, Any]]]
"""Takes a space (path to distribution) and a seed; gives the values of one trial after the other (path to value)."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A way to pick the values of trials."""

    name: str
    """What `search.algorithm` calls it."""
    title: str
    """What people call it."""
    description: str
    """What it does, in one line."""
    assignments: Assignments
    """The values of its trials, in order; without end unless it is exhaustive."""
    exhaustive: bool = False
    """Whether it takes each combination of choices once: it has a number of trials of its own, and takes no ranges."""
    learns: bool = False
    """Whether it chooses a trial's values when the trial starts, by what the ones before it showed."""


def _grid(space: Mapping[str, Any], _seed: int) -> Iterator[dict[str, Any]]:
    return combinations(space)


def _random(space: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    while True:
        yield assign(space, lambda _, distribution: distribution.at(rng.random()))


def _quasi_random(space: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    axes = {name: axis for axis, name in enumerate(distribution_names(space))}
    for index in itertools.count():
        yield assign(
            space,
            lambda name, distribution, index=index: distribution.at(coordinate(index, axes[name], seed=seed)),  # type: ignore[misc]
        )


def _open(_space: Mapping[str, Any], _seed: int) -> Iterator[dict[str, Any]]:
    return ({} for _ in itertools.count())


_TABLE = (
    Algorithm(
        name="grid",
        title="grid",
        description="every combination of choices",
        assignments=_grid,
        exhaustive=True,
    ),
    Algorithm(name="random", title="random", description="independent draws", assignments=_random),
    Algorithm(
        name="quasi_random",
        title="quasi-random",
        description="draws that fill the space more evenly (Halton)",
        assignments=_quasi_random,
    ),
    Algorithm(
        name="tpe",
        title="TPE",
        description="draws that learn from the trials before (tree-structured Parzen estimator)",
        assignments=_open,
        learns=True,
    ),
)

ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in _TABLE}
"""Every search algorithm by name."""

if TYPE_CHECKING:
    AlgorithmName = str
else:  # a Literal, so that JSON Schema and error messages list the names
    AlgorithmName = Literal[tuple(ALGORITHMS)]
