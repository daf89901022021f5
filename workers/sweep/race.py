"""A race among the configurations of a sweep: which trials may start, which never will, and why.

Owns the way from the trials of a plan to the rule (adadim_core/answers/race.py) and from its standing to words. It
keeps nothing: every attempt computes the same standing from the results on disk.
"""

import math
from collections.abc import Sequence

import numpy as np

from adadim_core.answers.race import Drop, Rule, standing
from adadim_core.spec import ExperimentSpec, TrialPlan, plan_trials, planned_seeds, trial_label
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.plan import configuration_of
from adadim_core.spec.scheduler import Race
from adadim_core.spec.seeds import SeedRange
from workers.storage.trial_result import TrialResult

_OVER = {
    "one left": "one configuration is left",
    "most seeds": "it has no further seeds to give",
}


class RaceCourse:
    """Follows the trials of a race."""

    def __init__(self, spec: ExperimentSpec, plans: Sequence[TrialPlan], finished: Sequence[TrialResult]) -> None:
        """
        Args:
            spec: The experiment, whose scheduler is a race.
            plans: The trials that are to end yet.
            finished: Those that ended well before.
        """
        self._spec, search = spec, spec.search
        if search is None or not isinstance(search.scheduler, Race) or not isinstance(search.seeds, SeedRange):
            raise ValueError("not a race")
        self._metric, self._race = search.metric, search.scheduler
        self._plan = plan_trials(spec)
        self._count = len(self._plan) // len(planned_seeds(spec))
        """Configurations."""
        self._rule = Rule(search.seeds.first, search.seeds.most, search.mode, self._race.indifference, _step(spec))
        shape = (self._count, search.seeds.most)
        self._values, self._ended = np.full(shape, np.nan), np.ones(shape, bool)
        for plan in plans:
            self._ended[self._cell(plan.number)] = False
        for result in finished:
            self._values[self._cell(result.number)] = _finite(result.metrics.get(self._metric))
        self._standing = standing(self._values, self._ended, self._rule)

    def end(self, number: int, value: float | None) -> None:
        """A trial ended with this value of the ranking metric; None: it showed nothing."""
        self._ended[self._cell(number)], self._values[self._cell(number)] = True, _finite(value)
        self._standing = standing(self._values, self._ended, self._rule)

    def may_start(self, number: int) -> bool:
        """Whether a trial that waits has its turn."""
        return self.verdict(number) is None and self._cell(number)[1] < self._standing.seeds

    def verdict(self, number: int) -> str | None:
        """Why a trial that waits will never start, or None."""
        configuration, seed = self._cell(number)
        drop = self._standing.dropped.get(configuration)
        if drop is not None and seed >= drop.seeds:
            return self._dropped(drop)
        if self._standing.over is None or seed < self._standing.seeds:
            return None
        why = _OVER.get(self._standing.over, f"all that are left are within {self._race.indifference:g} of each other")
        return f"the race was over after {self._standing.seeds} seeds: {why}"

    def _dropped(self, drop: Drop) -> str:
        said = f"dropped by the race after {drop.seeds} seeds"
        if drop.leader is None:
            return f"{said}: none of its replicates measured a value"
        leader = trial_label(self._spec, configuration_of(self._plan[drop.leader].params))
        behind = f"{self._metric} {drop.difference:+.3g} against {leader}"
        return f"{said}: {behind}, p {drop.p:.1g} (at most {drop.level:.1g})"

    def _cell(self, number: int) -> tuple[int, int]:
        """Configuration and position of the seed: where a trial is in the tables."""
        return number % self._count, number // self._count


def is_race(spec: ExperimentSpec) -> bool:
    """Whether the configurations of a spec race."""
    return spec.search is not None and isinstance(spec.search.scheduler, Race)


def never_to_start(spec: ExperimentSpec, plans: Sequence[TrialPlan], finished: Sequence[TrialResult]) -> dict[int, str]:
    """Of trials that are to end yet, those that a race leaves out by what has finished, and why."""
    if not is_race(spec):
        return {}
    course = RaceCourse(spec, plans, finished)
    return {plan.number: why for plan in plans if (why := course.verdict(plan.number)) is not None}


def _step(spec: ExperimentSpec) -> float:
    """Resolution of the ranking metric, where it is known before any value is: one image of the test set."""
    metric = spec.search.metric if spec.search is not None else ""
    images = None if spec.context["own_data"] else DATASETS[spec.data.dataset].test_images
    return 1 / images if images and METRICS[metric].share_of_images else 0.0


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan
