"""What every section of the spec shares: strictness and the common number types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the spec: unknown fields, wrong types and non-finite numbers are errors; values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


KIND_FIELDS = ("policy", "name")
"""Where a section has several kinds, the field that says which it is has one of these names."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
