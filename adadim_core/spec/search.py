"""The search section: which fields a sweep varies, how it picks their values, and with which seeds it repeats them.

A space names spec fields by dotted path. The values are picked before anything runs, so every trial is validated at
submission and has the same number in every attempt. Only TPE leaves values open: it fixes the number of configurations,
and chooses the values of each when it starts, from the results of earlier ones. The resulting trials are in plan.py.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from adadim_core.spec.algorithms import ALGORITHMS, AlgorithmName
from adadim_core.spec.base import Section
from adadim_core.spec.metrics import METRICS, RankingMetric
from adadim_core.spec.scheduler import NoScheduler, Scheduler
from adadim_core.spec.seeds import SEED_PATH, SEED_SECTION, Seeds, seed_count, varies_seed
from adadim_core.spec.space import Choice, Distribution, Draw, assign, distribution_names, extreme_count, leaves, locate

MAX_TRIALS = 1_000
_MOST_REPEATS = 1_000
"""After this many repeated draws in a row, the space is taken to have no others."""
_MOST_REPEATS_IN_ALL = 4 * _MOST_REPEATS
"""So many repeats are looked past in all: what is drawn once in hundreds of times is not waited for."""
_MOST_DRAWS = 6_000
"""Configurations times distributions: six ranges with as many configurations as there may be."""


class SearchSpec(Section):
    """Makes the experiment a sweep: the fields it varies and how it picks their values."""

    algorithm: Annotated[
        AlgorithmName,
        Field(description=" ".join(f"{name}: {algorithm.description}." for name, algorithm in ALGORITHMS.items())),
    ] = "random"
    trials: Annotated[
        int | None,
        Field(ge=1, le=MAX_TRIALS, description="Number of configurations, points included. A grid has its own."),
    ] = None
    seeds: Annotated[
        Seeds,
        Field(
            description="Seeds that every configuration trains with: how many, counted from training.seed, or a list; "
            "for a race {first: 3, most: 10}. All configurations have the same, so that differences are paired."
        ),
    ] = 1
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the draws.")] = 0
    metric: Annotated[
        RankingMetric,
        Field(
            description="The metric whose last value ranks the trials, and that TPE and schedulers use. Only "
            f"{', '.join(name for name, metric in METRICS.items() if metric.ranks and metric.needs_labels)} need "
            "labels."
        ),
    ] = "knn_top1"
    mode: Annotated[Literal["max", "min"], Field(description="Whether a higher or a lower value is better.")] = "max"
    points: Annotated[
        list[dict[str, JsonValue]],
        Field(max_length=MAX_TRIALS, description="Configurations to start with: a value from the space for each path."),
    ] = []
    scheduler: Annotated[
        Scheduler, Field(description="What happens to trials while they train: none, asha, median, pbt or race.")
    ] = NoScheduler()
    space: Annotated[
        dict[str, Distribution],
        Field(min_length=1, max_length=32, description="Dotted path of a spec field to the values it may take."),
    ]

    @model_validator(mode="after")
    def _algorithm_fits_space(self) -> Self:
        algorithm = ALGORITHMS[self.algorithm]
        if algorithm.exhaustive:
            if self.trials is not None:
                raise ValueError(f"trials is not for a {self.algorithm}, which has as many trials as combinations")
            found = [leaf for path in self.space for leaf in leaves(self.space[path], path).values()]
            if any(not isinstance(leaf, Choice) for leaf in found):
                raise ValueError(f"a {self.algorithm} takes choices only; use algorithm: random for ranges")
            if combination_count(self.space) > MAX_TRIALS:
                raise ValueError(f"the {self.algorithm} has more than {MAX_TRIALS} combinations")
        elif self.trials is None:
            raise ValueError(f"a {self.algorithm} search needs trials, the number of configurations")
        elif self.trials * (count := len(distribution_names(self.space))) > _MOST_DRAWS:
            raise ValueError(
                f"{self.trials} trials of a space of {count} distributions; give at most {_MOST_DRAWS // count} trials"
            )
        for path in self.space:
            for other in self.space:
                if other.startswith(path + "."):
                    raise ValueError(f"{path} and {other} overlap: the first contains the second")
        return self

    @model_validator(mode="after")
    def _seeds_fit_search(self) -> Self:
        if varies_seed(self.space):
            learns = ALGORITHMS[self.algorithm].learns
            if learns or self.scheduler.selects:
                by = f"algorithm {self.algorithm}" if learns else f"scheduler {self.scheduler.name}"
                raise ValueError(
                    f"{by} would choose the luckiest {SEED_PATH}, and its result would not hold with others; leave it "
                    "out of space and set search.seeds, with which every configuration is repeated"
                )
            if self.seeds != 1:
                raise ValueError(f"{SEED_PATH} is in space, and seeds is set: leave one of them out")
        elif SEED_SECTION in self.space and self.seeds != 1:
            raise ValueError(
                f"{SEED_SECTION} is in space as a whole, its seed included, and seeds is set; vary single fields, "
                f"as {SEED_SECTION}.lr"
            )
        if isinstance(self.seeds, list) and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds lists a seed twice")
        configurations, count = self.trials or combination_count(self.space), seed_count(self.seeds)
        if configurations * count > MAX_TRIALS:
            raise ValueError(
                f"{configurations} configurations x {count} seeds are more than {MAX_TRIALS} trials; take fewer"
            )
        return self

    @model_validator(mode="after")
    def _points_are_in_space(self) -> Self:
        if self.trials is not None and len(self.points) > self.trials:
            raise ValueError(f"points has {len(self.points)} configurations, more than trials ({self.trials})")
        known: set[str] = set()
        for number, point in enumerate(self.points):
            if point.keys() != self.space.keys():
                paths = ", ".join(sorted(self.space.keys() ^ point.keys()))
                raise ValueError(f"point {number} must have a value for exactly the paths of space; check {paths}")
            located: dict[str, Any] = {}
            for path, value in point.items():
                within = locate(self.space[path], value, path)
                if within is None:
                    raise ValueError(f"point {number}: {path} is not in the space of that path")
                located |= within
            text = _text(located)
            if text in known:
                raise ValueError(f"point {number} is listed twice")
            known.add(text)
        return self

    @model_validator(mode="after")
    def _scheduler_fits_search(self) -> Self:
        self.scheduler.check_search(self)
        return self

    @property
    def size(self) -> int | None:
        """How many configurations the space holds, MAX_TRIALS + 1 at most; None: it has ranges."""
        found = [leaf for path in self.space for leaf in leaves(self.space[path], path).values()]
        if any(not isinstance(leaf, Choice) for leaf in found):
            return None
        return min(combination_count(self.space), MAX_TRIALS + 1)

    @functools.cached_property
    def configurations(self) -> list[dict[str, Any]]:
        """The values of every configuration in order: path to value. None occurs twice; a seed fixes them.

        Paths are taken in alphabetical order, not as written: JSONB does not keep the order of an object's keys, and
        trial 3 must be the same trial for the service and for every attempt's worker. They are empty where TPE has yet
        to choose. A space with fewer than `trials` configurations gives fewer.
        """
        return list(self._configurations())

    def _configurations(self) -> Iterator[dict[str, Any]]:
        points = [dict(sorted(point.items())) for point in self.points]
        yield from points
        algorithm = ALGORITHMS[self.algorithm]
        found = algorithm.assignments(self.space, self.seed)
        if algorithm.exhaustive:
            listed = {_text(point) for point in points}
            yield from (params for params in found if not listed or _text(params) not in listed)
        elif algorithm.learns:
            count = min(self.trials or 0, self.size or MAX_TRIALS)
            yield from itertools.islice(found, max(count - len(points), 0))
        else:  # the same values with the same seed would train to the same numbers
            differing = _without_repeats(found, {_text(point) for point in points})
            yield from itertools.islice(differing, (self.trials or 0) - len(points))

    def assignment(self, draw: Draw) -> dict[str, Any]:
        """The values of one configuration from given draws."""
        return assign(self.space, draw)

    def draws(self, params: dict[str, Any]) -> dict[str, Any]:
        """The draws that give these values, by the name of the distribution. The reverse of `assignment`.

        Raises:
            ValueError: they are not values of this space.
        """
        found: dict[str, Any] = {}
        for path, distribution in sorted(self.space.items()):
            within = locate(distribution, params.get(path), path)
            if within is None:
                raise ValueError(f"{path} = {params.get(path)!r} is not in the space")
            found |= within
        return found


def combination_count(space: dict[str, Any]) -> int:
    """Combinations of a space's choices and of the bounds of its ranges."""
    return math.prod(map(extreme_count, space.values()))


def _without_repeats(found: Iterator[dict[str, Any]], known: set[str]) -> Iterator[dict[str, Any]]:
    """The values of an endless sequence that have not occurred before, until no new ones seem to follow."""
    in_row = in_all = 0
    for params in found:
        text = _text(params)
        if text not in known:
            known.add(text)
            in_row = 0
            yield params
            continue
        in_row, in_all = in_row + 1, in_all + 1
        if in_row == _MOST_REPEATS or in_all == _MOST_REPEATS_IN_ALL:
            return


_text = json.JSONEncoder(sort_keys=True).encode
"""Values as text: equal ones have equal texts."""
