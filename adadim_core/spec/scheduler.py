"""How a sweep treats its trials while they train: stop the poor ones early, or let them learn from the good ones.

Owns the sections `search.scheduler` and `stop`. The decisions are taken in workers.
"""

from typing import Annotated, Literal

from pydantic import Field

from adadim_core.spec.base import NonNegativeFloat, PositiveFloat, Probability, Section

_Grace = Annotated[int, Field(ge=1, le=100_000, description="Epochs every trial may train before it can be stopped.")]


class NoScheduler(Section):
    """Every trial trains to its end."""

    name: Literal["none"] = "none"


class Asha(Section):
    """Asynchronous successive halving (Li et al. 2020).

    After grace_epochs, and then at every reduction-th multiple of them, a trial goes on only if it is among the best
    1 / reduction of those that came so far.
    """

    name: Literal["asha"] = "asha"
    grace_epochs: _Grace = 5
    reduction: Annotated[int, Field(ge=2, le=100, description="Of so many trials one goes on.")] = 3


class MedianStopping(Section):
    """Stops a trial whose best value is worse than the median of the other trials' running means (Golovin 2017)."""

    name: Literal["median"] = "median"
    grace_epochs: _Grace = 5
    min_trials: Annotated[int, Field(ge=1, le=1_000, description="Other trials there must be to compare with.")] = 3


class PopulationBasedTraining(Section):
    """All trials train side by side; poor ones take over weights and values of good ones (Jaderberg et al. 2017).

    The values taken over are varied: gamma, a fixed alpha and the learning rate change while a trial trains.
    """

    name: Literal["pbt"] = "pbt"
    every_epochs: Annotated[int, Field(ge=1, le=100_000, description="Epochs between two comparisons.")] = 5
    quantile: Annotated[
        float, Field(gt=0.0, le=0.5, description="Share of poor trials, and of good ones they learn from.")
    ] = 0.25
    resample: Annotated[
        Probability, Field(description="Probability that a value is drawn anew; else it is multiplied by 0.8 or 1.2.")
    ] = 0.25


Scheduler = Annotated[NoScheduler | Asha | MedianStopping | PopulationBasedTraining, Field(discriminator="name")]

PBT_PATHS = ("objective.mutual_information.gamma", "objective.weighting.alpha", "training.lr")
"""What may change while a trial trains."""


class PlateauSpec(Section):
    """Ends a trial whose ranking metric has stopped getting better."""

    patience: Annotated[int, Field(ge=1, le=100_000, description="Epochs without a better value.")] = 20
    min_delta: Annotated[NonNegativeFloat, Field(description="A value counts as better by more than this.")] = 0.0


class StopSpec(Section):
    """When to end early, beside training.collapse.stop and search.scheduler. What was trained until then counts."""

    minutes: Annotated[
        PositiveFloat | None,
        Field(le=1e6, description="Time for the whole experiment, all attempts together; looked at after every epoch."),
    ] = None
    plateau: PlateauSpec | None = None
