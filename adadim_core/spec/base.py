"""What every section of the spec shares: strictness, extent and the common number types."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

MAX_VALUES = 8_000
"""Fields and values of a spec together: a thousand sections of three fields, and as much again."""


class Section(BaseModel):
    """A part of the spec: unknown fields, wrong types and non-finite numbers are errors; values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


KIND_FIELDS = ("policy", "name")
"""Where a section has several kinds, the field that says which it is has one of these names."""


class Kind(Section):
    """One of the kinds that a section may be of, as VICReg is of the dimension losses: settings and words."""

    title: ClassVar[str]
    """What people call it."""
    labelled: ClassVar[frozenset[str]] = frozenset()
    """The settings that `label` says."""

    def label(self) -> str:
        """What the label of a trial says of it."""
        return self.title


Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
