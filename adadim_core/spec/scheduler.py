"""How a sweep treats its trials while they train: stop the poor ones early, or let them learn from the good ones.

Owns the sections `search.scheduler` and `stop`: the settings of each kind, its words, and its requirements on the rest
of a spec. The decisions are taken in workers/sweep (stopping.py, population.py, queue.py).
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.base import Kind, NonNegativeFloat, PositiveFloat, Probability, Section
from adadim_core.spec.seeds import MOST_OF_RACE, SeedRange
from adadim_core.spec.space import Choice, leaves

if TYPE_CHECKING:
    from adadim_core.spec.experiment import ExperimentSpec
    from adadim_core.spec.search import SearchSpec

_Grace = Annotated[int, Field(ge=1, le=100_000, description="Epochs each trial trains before it can be stopped.")]


class SchedulerKind(Kind):
    """A kind of scheduler, with its requirements on the rest of the spec."""

    name: str
    decides: ClassVar[bool] = True
    """Whether it uses values of the ranking metric while trials train."""
    selects: ClassVar[bool] = True
    """Whether it gives more training to some configurations than to others."""

    def check_search(self, search: "SearchSpec") -> None:
        """Raises ValueError if it does not fit the rest of the search section."""
        if isinstance(search.seeds, SeedRange):
            raise ValueError(f"seeds: {{first, most}} is for scheduler race; with {self.name} give a number or a list")

    def check_experiment(self, spec: "ExperimentSpec") -> None:
        """Raises ValueError if it does not fit the rest of the spec."""


class _StoppingKind(SchedulerKind):
    grace_epochs: _Grace = 5

    def check_experiment(self, spec: "ExperimentSpec") -> None:
        if self.grace_epochs >= spec.epochs:
            raise ValueError(
                f"search.scheduler.grace_epochs ({self.grace_epochs}) must be smaller than training.epochs "
                f"({spec.epochs}), or no trial can ever be stopped"
            )


class NoScheduler(SchedulerKind):
    """Every trial trains to its end."""

    title = "none"
    decides = False
    selects = False
    name: Literal["none"] = "none"


class Asha(_StoppingKind):
    """Asynchronous successive halving (Li et al. 2020).

    After grace_epochs, and then at every reduction-th multiple of them, a trial continues only if it is among the best
    1 / reduction of those that have reached that epoch.
    """

    title = "ASHA"
    name: Literal["asha"] = "asha"
    reduction: Annotated[
        int, Field(ge=2, le=100, description="One of this many trials trains on after each comparison.")
    ] = 3


class MedianStopping(_StoppingKind):
    """Stops a trial whose best value is worse than the median of the other trials' running means (Golovin 2017)."""

    title = "median stopping"
    name: Literal["median"] = "median"
    min_trials: Annotated[
        int, Field(ge=1, le=1_000, description="Smallest number of other trials to compare with.")
    ] = 3


class PopulationBasedTraining(SchedulerKind):
    """All trials train side by side; poor ones take over weights and values of good ones (Jaderberg et al. 2017).

    The values taken over are varied: gamma, a fixed alpha and the learning rate change while a trial trains.
    """

    title = "PBT"
    name: Literal["pbt"] = "pbt"
    every_epochs: Annotated[int, Field(ge=1, le=100_000, description="Epochs between two comparisons.")] = 5
    quantile: Annotated[
        float, Field(gt=0.0, le=0.5, description="Share of trials that take over, and of those they take over from.")
    ] = 0.25
    resample: Annotated[
        Probability,
        Field(description="Probability that a value is drawn again; otherwise it is multiplied by 0.8 or 1.2."),
    ] = 0.25

    def check_search(self, search: "SearchSpec") -> None:
        super().check_search(search)
        if ALGORITHMS[search.algorithm].learns:
            others = ", ".join(name for name, algorithm in ALGORITHMS.items() if not algorithm.learns)
            raise ValueError(f"scheduler pbt chooses values itself; use it with one of {others}")
        if fixed := sorted(set(search.space) - set(PBT_PATHS)):
            raise ValueError(
                f"scheduler pbt changes values while trials train: it takes {', '.join(PBT_PATHS)}, not {fixed[0]}"
            )
        if any(isinstance(d, Choice) and any(leaves(v, "") for v in d.alternatives) for d in search.space.values()):
            raise ValueError("scheduler pbt takes ranges and choices of plain numbers")
        if search.seeds != 1:
            raise ValueError(
                "scheduler pbt changes values while trials train, so replicates would differ; leave out seeds"
            )

    def check_experiment(self, spec: "ExperimentSpec") -> None:
        if spec.resources.workers > 1:
            raise ValueError("search.scheduler pbt needs trials of one process; set resources.workers: 1")
        if spec.resources.max_concurrent_trials:
            raise ValueError(
                "search.scheduler pbt trains as many trials at once as fit on the cluster; leave out "
                "resources.max_concurrent_trials"
            )


class Race(SchedulerKind):
    """Gives another seed to the configurations that may still be the best, and drops those that are not.

    Goes with search.seeds: {first: 3, most: 10}. Anchors: F-race (Birattari et al. 2002), irace (Lopez-Ibanez et al.
    2016). The rule is in adadim_core/answers/race.py.
    """

    title = "race"
    decides = False
    name: Literal["race"] = "race"
    indifference: Annotated[
        NonNegativeFloat,
        Field(description="Differences in the ranking metric up to this do not matter and end the race. 0: none."),
    ] = 0.0

    def check_search(self, search: "SearchSpec") -> None:
        if not isinstance(search.seeds, SeedRange):
            raise ValueError("scheduler race needs the seeds it may use, as in seeds: {first: 3, most: 10}")
        if search.seeds.most > MOST_OF_RACE:
            raise ValueError(
                f"seeds.most ({search.seeds.most}) must be at most {MOST_OF_RACE}: each look of a race decides by a "
                "smaller p, and later ones could decide nothing; for more seeds leave out the race and give a number"
            )
        if ALGORITHMS[search.algorithm].learns:
            others = ", ".join(name for name, algorithm in ALGORITHMS.items() if not algorithm.learns)
            raise ValueError(
                f"scheduler race needs configurations that are known at its start; use it with one of {others}"
            )


Scheduler = Annotated[NoScheduler | Asha | MedianStopping | PopulationBasedTraining | Race, Field(discriminator="name")]

PBT_PATHS = ("objective.mutual_information.gamma", "objective.weighting.alpha", "training.lr")
"""What may change while a trial trains."""


class PlateauSpec(Section):
    """Ends a trial whose ranking metric has stopped improving."""

    patience: Annotated[int, Field(ge=1, le=100_000, description="Epochs without an improvement.")] = 20
    min_delta: Annotated[NonNegativeFloat, Field(description="Smallest improvement that counts.")] = 0.0


class StopSpec(Section):
    """When to end early, beside training.collapse.stop and search.scheduler. Results up to then are kept."""

    minutes: Annotated[
        PositiveFloat | None,
        Field(le=1e6, description="Time for the whole experiment, over all attempts; checked after every epoch."),
    ] = None
    plateau: PlateauSpec | None = None
