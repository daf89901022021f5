"""The seeds a sweep repeats its configurations with: the section `search.seeds`."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from adadim_core.spec.base import Section

SEED_PATH = "training.seed"
"""What the replicates of a configuration differ in."""
SEED_SECTION, _FIELD = SEED_PATH.split(".")
_MOST = 1_000
MOST_OF_RACE = 50
"""Later looks of a race would have to tell p values from 0 that are no larger than rounding errors."""

_Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class SeedRange(Section):
    """The seeds of a race: how many every configuration gets, and how many at most those that remain in it."""

    first: Annotated[int, Field(ge=2, description="Seeds of every configuration, before any is dropped.")]
    most: Annotated[
        int, Field(ge=3, description=f"Seeds of the configurations that remain to the end, {MOST_OF_RACE} at most.")
    ]

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


def varies_seed(space: Mapping[str, Any]) -> bool:
    """Whether a space sets the seed, by its own path or within a value of the whole section."""
    return SEED_PATH in space or (SEED_SECTION in space and _names_seed(space[SEED_SECTION].model_dump()))


def _names_seed(node: Any) -> bool:
    """Whether a value, or a distribution of some, has a field of that name anywhere."""
    if isinstance(node, dict):
        return _FIELD in node or any(_names_seed(part) for part in node.values())
    return isinstance(node, list) and any(_names_seed(part) for part in node)
