"""Which configurations are too far behind to train on: ASHA and median stopping, on the means of replicates.

Owns the comparisons, as functions of what was observed, and which of them a spec asks for. What follows from a verdict
is stopping.py's. With one seed a configuration is its trial, and these are the rules as published.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

import numpy as np

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.scheduler import Asha, MedianStopping, NoScheduler, PopulationBasedTraining, Race


@dataclass(frozen=True)
class Behind:
    """A configuration is too far behind."""

    value: float
    """What it was judged by: the mean of its replicates' values."""
    replicates: int
    """How many of them that is the mean of."""


class Judge(Protocol):
    """Compares configurations while they train."""

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        """Trial `number` has this finite value of the ranking metric at the end of this epoch.

        Returns whether its configuration is too far behind. What is observed counts for others either way.
        """


def make_judge(spec: ExperimentSpec, mode: str, configurations: Mapping[int, int]) -> Judge | None:
    """The comparison of configurations that a spec asks for; None if no configuration is stopped for being behind.

    Args:
        spec: The experiment.
        mode: max or min.
        configurations: Trial number to configuration.
    """
    match spec.search.scheduler if spec.search is not None else NoScheduler():
        case Asha() as settings:
            return AshaJudge(settings, spec.epochs, mode, configurations)
        case MedianStopping() as settings:
            return MedianJudge(settings, mode, configurations)
        case NoScheduler() | PopulationBasedTraining() | Race():  # population.py and race.py decide
            return None
        case _ as forgotten:
            assert_never(forgotten)


class AshaJudge:
    """Asynchronous successive halving (Li et al. 2020), as Ray Tune has it.

    At grace_epochs and every reduction-th multiple of them a configuration is compared with the others that came so
    far: it continues if its mean is among the best 1 / reduction, by linear interpolation.
    """

    def __init__(self, settings: Asha, epochs: int, mode: str, configurations: Mapping[int, int]) -> None:
        """
        Args:
            settings: The spec's.
            epochs: Of the longest trial.
            mode: max or min.
            configurations: Trial number to configuration.
        """
        count = int(math.log(max(epochs, settings.grace_epochs) / settings.grace_epochs, settings.reduction) + 1e-9) + 1
        self._milestones = [settings.grace_epochs * settings.reduction**k for k in reversed(range(count))]
        self._came: dict[int, dict[int, dict[int, float]]] = {milestone: {} for milestone in self._milestones}
        """Milestone to configuration to trial to its value there; more is better."""
        self._percentile = 100.0 * (1 - 1 / settings.reduction)
        self._sign = 1.0 if mode == "max" else -1.0
        self._configurations = configurations

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        milestone = next((milestone for milestone in self._milestones if milestone <= epoch), None)
        if milestone is None:
            return None
        came, configuration = self._came[milestone], self._configurations[number]
        own = came.setdefault(configuration, {})
        if number in own:  # judged here before
            return None
        own[number] = self._sign * value
        others = [statistics.fmean(values.values()) for other, values in came.items() if other != configuration]
        mean = statistics.fmean(own.values())
        if others and mean < float(np.percentile(others, self._percentile)):
            return Behind(self._sign * mean, len(own))
        return None


class MedianJudge:
    """Median stopping (Golovin et al. 2017), as Ray Tune has it.

    A configuration is too far behind if its best value is worse than the median of the other configurations' running
    means, of those that trained at least as long. Both are means over the replicates.
    """

    def __init__(self, settings: MedianStopping, mode: str, configurations: Mapping[int, int]) -> None:
        """Arguments: as for `AshaJudge`."""
        self._settings = settings
        self._sign = 1.0 if mode == "max" else -1.0
        self._configurations = configurations
        self._values: dict[int, dict[int, dict[int, float]]] = {}
        """Configuration to trial to epoch to value; more is better."""

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        configuration = self._configurations[number]
        own = self._values.setdefault(configuration, {})
        own.setdefault(number, {})[epoch] = self._sign * value
        if epoch < self._settings.grace_epochs:
            return None
        others = [
            mean
            for other, replicates in self._values.items()
            if other != configuration and (mean := self._running_mean(replicates.values(), epoch)) is not None
        ]
        best = [max(found) for values in own.values() if (found := [v for at, v in values.items() if at <= epoch])]
        mean = statistics.fmean(best)
        if len(others) >= self._settings.min_trials and mean < statistics.median(others):
            return Behind(self._sign * mean, len(best))
        return None

    def _running_mean(self, replicates: Iterable[Mapping[int, float]], epoch: int) -> float | None:
        """Of those that reached `epoch`: the mean of their means since grace_epochs."""
        means = []
        for values in replicates:
            within = [v for at, v in values.items() if self._settings.grace_epochs <= at <= epoch]
            if within and max(values) >= epoch:
                means.append(statistics.fmean(within))
        return statistics.fmean(means) if means else None
