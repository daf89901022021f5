"""Which configurations are too far behind to train on: ASHA and median stopping, on the means of replicates.

Owns the comparisons, as functions of what was observed, and which of them a spec asks for. What follows from a verdict
is stopping.py's. With one seed a configuration is its trial, and these are the rules as published.
"""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
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

    def record(self, number: int, epoch: int, value: float) -> None:
        """Trial `number` has this finite value of the ranking metric at the end of this epoch. It counts for others."""

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        """Record a value, and return whether the trial's configuration is too far behind."""


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
        self._milestones: list[int] = [settings.grace_epochs * settings.reduction**k for k in reversed(range(count))]
        self._came: dict[int, dict[int, dict[int, float]]] = {milestone: {} for milestone in self._milestones}
        """Milestone to configuration to trial to its value there; more is better."""
        self._percentile = 100.0 * (1 - 1 / settings.reduction)
        self._sign = 1.0 if mode == "max" else -1.0
        self._configurations = configurations

    def record(self, number: int, epoch: int, value: float) -> None:
        self._came_to(number, epoch, value)

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        milestone = self._came_to(number, epoch, value)
        if milestone is None:
            return None
        came, configuration = self._came[milestone], self._configurations[number]
        own = came[configuration]
        others = [statistics.fmean(values.values()) for other, values in came.items() if other != configuration]
        mean = statistics.fmean(own.values())
        if others and mean < float(np.percentile(others, self._percentile)):
            return Behind(self._sign * mean, len(own))
        return None

    def _came_to(self, number: int, epoch: int, value: float) -> int | None:
        """Record a value. Returns the milestone that the trial came to with it, if it had not come there before."""
        milestone = next((milestone for milestone in self._milestones if milestone <= epoch), None)
        if milestone is None:
            return None
        own = self._came[milestone].setdefault(self._configurations[number], {})
        if number in own:
            return None
        own[number] = self._sign * value
        return milestone


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
        self._courses: dict[int, dict[int, _Course]] = {}
        """Configuration to trial to its course."""

    def record(self, number: int, epoch: int, value: float) -> None:
        own = self._courses.setdefault(self._configurations[number], {})
        own.setdefault(number, _Course(self._settings.grace_epochs)).record(epoch, self._sign * value)

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        self.record(number, epoch, value)
        if epoch < self._settings.grace_epochs:
            return None
        configuration = self._configurations[number]
        others = [
            mean
            for other, replicates in self._courses.items()
            if other != configuration and (mean := _running_mean(replicates.values(), epoch)) is not None
        ]
        own = self._courses[configuration].values()
        best = [found for course in own if (found := course.best(epoch)) is not None]
        mean = statistics.fmean(best)
        if len(others) >= self._settings.min_trials and mean < statistics.median(others):
            return Behind(self._sign * mean, len(best))
        return None


class _Course:
    """The values of a trial by epoch, more being better, with what is asked of them kept ready for every epoch."""

    def __init__(self, grace_epochs: int) -> None:
        self._grace_epochs = grace_epochs
        self._epochs: list[int] = []
        self._values: list[float] = []
        self._bests: list[float] = []
        """Up to every epoch."""
        self._means: list[float | None] = []
        """From grace_epochs to every epoch; None before."""
        self._sum, self._count = Fraction(), 0
        """Since grace_epochs. Exact: trials with equal values must come to equal means, as for statistics.fmean."""

    def record(self, epoch: int, value: float) -> None:
        """A trial that resumes may come to an epoch again: its last value there counts."""
        place = bisect_left(self._epochs, epoch)
        later = list(zip(self._epochs[place:], self._values[place:], strict=True))
        if later:
            if later[0] == (epoch, value):
                return
            del self._epochs[place:], self._values[place:], self._bests[place:], self._means[place:]
            within = [Fraction(v) for at, v in zip(self._epochs, self._values, strict=True) if at >= self._grace_epochs]
            self._sum, self._count = sum(within, Fraction()), len(within)
        self._append(epoch, value)
        for at, v in later:
            if at != epoch:
                self._append(at, v)

    def _append(self, epoch: int, value: float) -> None:
        self._epochs.append(epoch)
        self._values.append(value)
        self._bests.append(max(value, self._bests[-1]) if self._bests else value)
        if epoch >= self._grace_epochs:
            self._sum, self._count = self._sum + Fraction(value), self._count + 1
        self._means.append(float(self._sum) / self._count if self._count else None)

    def best(self, epoch: int) -> float | None:
        """The best value up to an epoch."""
        place = bisect_right(self._epochs, epoch)
        return self._bests[place - 1] if place else None

    def mean(self, epoch: int) -> float | None:
        """The mean from grace_epochs to an epoch, if the trial came that far."""
        if not self._epochs or self._epochs[-1] < epoch:
            return None
        place = bisect_right(self._epochs, epoch)
        return self._means[place - 1] if place else None


def _running_mean(replicates: Iterable[_Course], epoch: int) -> float | None:
    """Of those that reached `epoch`: the mean of their running means."""
    means = [mean for course in replicates if (mean := course.mean(epoch)) is not None]
    return statistics.fmean(means) if means else None
