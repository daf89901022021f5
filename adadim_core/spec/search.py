"""The search section: which fields a sweep varies, and the plan of its trials.

A space names spec fields by dotted path. Grid and random sweeps are planned in full before anything runs, so
every trial is validated at submission and has the same number in every attempt.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from adadim_core.spec.base import PositiveFloat, Section

MAX_TRIALS = 1_000

_Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


def _require_order(bounds: list[float] | list[int], name: str) -> None:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{name} must be [low, high] with low < high")


class Uniform(Section):
    """A real number between two bounds."""

    uniform: _Bounds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.uniform, "uniform")
        return self

    def sample(self, rng: random.Random) -> float:
        return rng.uniform(*self.uniform)

    def probes(self) -> list[Any]:
        return list(self.uniform)


class LogUniform(Section):
    """A positive real number whose logarithm is uniform between two bounds."""

    log_uniform: Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.log_uniform, "log_uniform")
        return self

    def sample(self, rng: random.Random) -> float:
        low, high = self.log_uniform
        # exp(log(high)) may round past the bound the spec allows
        return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)

    def probes(self) -> list[Any]:
        return list(self.log_uniform)


class Integer(Section):
    """A whole number between two bounds, both included."""

    integer: Annotated[list[int], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.integer, "integer")
        return self

    def sample(self, rng: random.Random) -> int:
        return rng.randint(*self.integer)

    def probes(self) -> list[Any]:
        return list(self.integer)


class Choice(Section):
    """One of the listed values. A value may be a whole section, as {policy: fixed, alpha: 0.5}."""

    choice: Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_TRIALS)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen = {json.dumps(value, sort_keys=True) for value in self.choice}
        if len(seen) < len(self.choice):
            raise ValueError("choice lists a value twice")
        return self

    def sample(self, rng: random.Random) -> JsonValue:
        return rng.choice(self.choice)

    def probes(self) -> list[Any]:
        return list(self.choice)


def _kind(value: Any) -> str | None:
    """Which distribution a value spells: the one of the known names it has as its key."""
    fields = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((name for name in ("uniform", "log_uniform", "integer", "choice") if name in fields), None)


Distribution = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Integer, Tag("integer")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="unknown_distribution",
        custom_error_message="should be one of {uniform: [low, high]}, {log_uniform: [low, high]}, "
        "{integer: [low, high]} or {choice: [value, ...]}",
    ),
]


class SearchSpec(Section):
    """Makes the experiment a sweep: the fields it varies and how it picks their values."""

    algorithm: Annotated[
        Literal["grid", "random"], Field(description="grid: every combination of choices. random: independent draws.")
    ] = "random"
    trials: Annotated[int | None, Field(ge=1, le=MAX_TRIALS, description="Number of trials of a random search.")] = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the random draws.")] = 0
    metric: Annotated[
        Literal["knn_top1", "linear_top1", "loss", "h_r", "i_rz", "erank_r", "erank_z", "uniformity", "alignment"],
        Field(description="The metric whose last value ranks the trials."),
    ] = "knn_top1"
    mode: Literal["max", "min"] = "max"
    space: Annotated[dict[str, Distribution], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _algorithm_fits_space(self) -> Self:
        if self.algorithm == "grid":
            if self.trials is not None:
                raise ValueError("trials is for random search; a grid has as many trials as combinations")
            if any(not isinstance(d, Choice) for d in self.space.values()):
                raise ValueError("a grid takes only choice; use algorithm: random for ranges")
            if math.prod(len(d.probes()) for d in self.space.values()) > MAX_TRIALS:
                raise ValueError(f"the grid has more than {MAX_TRIALS} combinations")
        elif self.trials is None:
            raise ValueError("a random search needs trials, the number of draws")
        for path in self.space:
            for other in self.space:
                if other.startswith(path + "."):
                    raise ValueError(f"{path} and {other} overlap: one contains the other")
        return self

    def assignments(self) -> Iterator[dict[str, Any]]:
        """The values of every trial in order: path to value. The same seed gives the same values.

        Paths are taken in alphabetical order, not as written: JSONB does not keep the order of an object's keys, and
        trial 3 must be the same trial for the service and for every attempt's worker.
        """
        space = dict(sorted(self.space.items()))
        if self.algorithm == "grid":
            for values in itertools.product(*(d.probes() for d in space.values())):
                yield dict(zip(space, values, strict=True))
            return
        rng = random.Random(self.seed)
        for _ in range(self.trials or 0):
            yield {path: distribution.sample(rng) for path, distribution in space.items()}


@dataclass(frozen=True)
class TrialPlan:
    """One trial to run: its number within the experiment and the spec fields it sets."""

    number: int
    """Position in the plan, from 0."""
    params: dict[str, Any]
    """Dotted spec path to value; empty for a single run."""


def plan_trials(search: SearchSpec | None) -> list[TrialPlan]:
    """Every trial of an experiment, in the order they start. A spec without a search has one."""
    if search is None:
        return [TrialPlan(0, {})]
    return [TrialPlan(number, params) for number, params in enumerate(search.assignments())]
