"""The search section: which fields a sweep varies, and the plan of its trials.

A space names spec fields by dotted path. The plan is made before anything runs, so every trial is validated at
submission and has the same number in every attempt. Only TPE leaves values open: it plans how many trials there
are, and chooses a trial's values from what the ones before it showed, when it starts.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from adadim_core.spec.algorithms import ALGORITHMS, AlgorithmName
from adadim_core.spec.base import Section
from adadim_core.spec.metrics import METRICS, RankingMetric
from adadim_core.spec.scheduler import NoScheduler, Scheduler
from adadim_core.spec.space import Choice, Distribution, Draw, assign, extremes, leaves, locate

MAX_TRIALS = 1_000


class SearchSpec(Section):
    """Makes the experiment a sweep: the fields it varies and how it picks their values."""

    algorithm: Annotated[
        AlgorithmName,
        Field(description=" ".join(f"{name}: {algorithm.description}." for name, algorithm in ALGORITHMS.items())),
    ] = "random"
    trials: Annotated[
        int | None, Field(ge=1, le=MAX_TRIALS, description="Number of trials, points included. A grid has its own.")
    ] = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the draws.")] = 0
    metric: Annotated[
        RankingMetric,
        Field(
            description="The metric whose last value ranks the trials, and which TPE and schedulers go by. Only "
            f"{' and '.join(name for name, metric in METRICS.items() if metric.ranks and metric.needs_labels)} need "
            "labels."
        ),
    ] = "knn_top1"
    mode: Annotated[Literal["max", "min"], Field(description="Whether more of the metric is better, or less.")] = "max"
    points: Annotated[
        list[dict[str, JsonValue]],
        Field(max_length=MAX_TRIALS, description="Trials to begin with: a value of the space for each of its paths."),
    ] = []
    scheduler: Annotated[
        Scheduler, Field(description="What happens to trials while they train: none, asha, median or pbt.")
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
                raise ValueError(f"a {self.algorithm} takes only choice; use algorithm: random for ranges")
            if math.prod(_bounded_count(d) for d in self.space.values()) > MAX_TRIALS:
                raise ValueError(f"the {self.algorithm} has more than {MAX_TRIALS} combinations")
        elif self.trials is None:
            raise ValueError(f"a {self.algorithm} search needs trials, their number")
        for path in self.space:
            for other in self.space:
                if other.startswith(path + "."):
                    raise ValueError(f"{path} and {other} overlap: one contains the other")
        return self

    @model_validator(mode="after")
    def _points_are_in_space(self) -> Self:
        if self.trials is not None and len(self.points) > self.trials:
            raise ValueError(f"points has {len(self.points)} trials, more than the {self.trials} of trials")
        for number, point in enumerate(self.points):
            if point.keys() != self.space.keys():
                paths = ", ".join(sorted(self.space.keys() ^ point.keys()))
                raise ValueError(f"point {number} must give a value to exactly the paths of space; look at {paths}")
            for path, value in point.items():
                if locate(self.space[path], value, path) is None:
                    raise ValueError(f"point {number}: its {path} is not a value of that path's space")
            if point in self.points[:number]:
                raise ValueError(f"point {number} is listed twice")
        return self

    @model_validator(mode="after")
    def _scheduler_fits_search(self) -> Self:
        self.scheduler.check_search(self)
        return self

    def assignments(self) -> Iterator[dict[str, Any]]:
        """The values of every trial in order: path to value. The same seed gives the same values.

        Paths are taken in alphabetical order, not as written: JSONB does not keep the order of an object's keys, and
        trial 3 must be the same trial for the service and for every attempt's worker. Trials whose values TPE has yet
        to choose have none.
        """
        points = [dict(sorted(point.items())) for point in self.points]
        yield from points
        algorithm = ALGORITHMS[self.algorithm]
        found = algorithm.assignments(self.space, self.seed)
        if algorithm.exhaustive:
            yield from (params for params in found if params not in points)
        else:
            yield from itertools.islice(found, (self.trials or 0) - len(points))

    def assignment(self, draw: Draw) -> dict[str, Any]:
        """The values of one trial by somebody's draws."""
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


def _bounded_count(distribution: Any) -> int:
    return sum(1 for _ in itertools.islice(extremes(distribution), MAX_TRIALS + 1))


@dataclass(frozen=True)
class TrialPlan:
    """One trial to run: its number within the experiment and the spec fields it sets."""

    number: int
    """Position in the plan, from 0."""
    params: dict[str, Any]
    """Dotted spec path to value; empty for a single run, and while TPE has yet to choose."""


def plan_trials(search: SearchSpec | None) -> list[TrialPlan]:
    """Every trial of an experiment, in the order they start. A spec without a search has one."""
    if search is None:
        return [TrialPlan(0, {})]
    return [TrialPlan(number, params) for number, params in enumerate(search.assignments())]
