"""The seeds a sweep repeats its configurations with: the section `search.seeds`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from adadim_core.spec.base import Section

SEED_PATH = "training.seed"
"""What the replicates of a configuration differ in."""
_MOST = 1_000

_Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class SeedRange(Section):
    """The seeds of a race: how many every configuration gets, and how many at most those that remain in it."""

    first: Annotated[int, Field(ge=2, le=_MOST, description="Seeds of every configuration, before any is dropped.")]
    most: Annotated[int, Field(ge=3, le=_MOST, description="Seeds of the configurations that remain to the end.")]

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.most <= self.first:
            raise ValueError(f"most ({self.most}) must be larger than first ({self.first})")
        return self


Seeds = (
    Annotated[int, Field(ge=1, le=_MOST)] | Annotated[list[_Seed], Field(min_length=1, max_length=_MOST)] | SeedRange
)
"""The number of seeds, counted from training.seed; a list of seeds; or the range of a race."""


def seed_count(seeds: int | list[int] | SeedRange) -> int:
    """How many seeds a configuration trains with; in a race at most."""
    match seeds:
        case SeedRange(most=most):
            return most
        case list():
            return len(seeds)
        case _:
            return seeds
