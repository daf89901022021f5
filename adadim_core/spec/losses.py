"""The kinds of losses: settings and words of each. Their formulas are in adadim_core/losses.py."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from adadim_core.spec.base import Kind, NonNegativeFloat, PositiveFloat


class VICReg(Kind):
    """Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun 2022)."""

    title = "VICReg"
    name: Literal["vicreg"] = "vicreg"
    invariance: NonNegativeFloat = 25.0
    variance: NonNegativeFloat = 25.0
    covariance: NonNegativeFloat = 1.0


class BarlowTwins(Kind):
    """Redundancy reduction (Zbontar, Jing, Misra, LeCun, Deny 2021)."""

    title = "Barlow Twins"
    name: Literal["barlow_twins"] = "barlow_twins"
    redundancy: NonNegativeFloat = 0.0051


DimensionLoss = Annotated[VICReg | BarlowTwins, Field(discriminator="name")]


class NTXent(Kind):
    """Normalised temperature-scaled cross entropy (Chen, Kornblith, Norouzi, Hinton 2020)."""

    title = "NT-Xent"
    name: Literal["nt_xent"] = "nt_xent"
    temperature: Annotated[PositiveFloat, Field(le=100.0)] = 0.2


def _nt_xent_by_default(value: Any) -> Any:
    """A sample loss without a name is NT-Xent: specs were written while there was no other."""
    return {"name": "nt_xent", **value} if isinstance(value, dict) else value


SampleLoss = Annotated[NTXent, BeforeValidator(_nt_xent_by_default)]
