"""The objective section: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z), beta = gamma * alpha."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adadim_core.spec.base import NonNegativeFloat, PositiveFloat, Probability, Section


class VICReg(Section):
    """Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun 2022)."""

    name: Literal["vicreg"] = "vicreg"
    invariance: NonNegativeFloat = 25.0
    variance: NonNegativeFloat = 25.0
    covariance: NonNegativeFloat = 1.0


class BarlowTwins(Section):
    """Redundancy reduction (Zbontar, Jing, Misra, LeCun, Deny 2021)."""

    name: Literal["barlow_twins"] = "barlow_twins"
    redundancy: NonNegativeFloat = 0.0051


DimensionLoss = Annotated[VICReg | BarlowTwins, Field(discriminator="name")]


class NTXent(Section):
    """Normalised temperature-scaled cross entropy (Chen, Kornblith, Norouzi, Hinton 2020)."""

    name: Literal["nt_xent"] = "nt_xent"
    temperature: Annotated[PositiveFloat, Field(le=100.0)] = 0.2


class AdaptiveWeighting(Section):
    """alpha follows the effective rank of Z: alpha = clamp(ER(Z) / normaliser, floor, ceiling)."""

    policy: Literal["adaptive"] = "adaptive"
    normalizer: Annotated[
        Literal["min", "dim", "log"],
        Field(description="min: min(N-1, D). dim: D. log: log ER / log min(N-1, D)."),
    ] = "min"
    batches: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Batches one measurement of ER(Z) averages; at most one for every 20 steps of an epoch.",
        ),
    ] = 4
    every_epochs: Annotated[int, Field(ge=1, description="Epochs between two measurements.")] = 1
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0, description="Weight of the previous alpha in the next one.")] = (
        0.0
    )
    floor: Probability = 0.0
    ceiling: Probability = 1.0

    @model_validator(mode="after")
    def _floor_is_below_ceiling(self) -> Self:
        if self.floor > self.ceiling:
            raise ValueError(f"floor ({self.floor}) must not be above ceiling ({self.ceiling})")
        return self


class FixedWeighting(Section):
    """alpha stays as given."""

    policy: Literal["fixed"] = "fixed"
    alpha: Probability = 0.5


class LinearWeighting(Section):
    """alpha goes from start to end along a line over training."""

    policy: Literal["linear"] = "linear"
    start: Probability = 0.0
    end: Probability = 1.0


class CosineWeighting(Section):
    """alpha goes from start to end along half a cosine over training."""

    policy: Literal["cosine"] = "cosine"
    start: Probability = 0.0
    end: Probability = 1.0


Weighting = Annotated[
    AdaptiveWeighting | FixedWeighting | LinearWeighting | CosineWeighting, Field(discriminator="policy")
]


class MutualInformationSpec(Section):
    """The I(R;Z) term of the loss. It is measured and logged whatever gamma is."""

    gamma: Annotated[NonNegativeFloat, Field(le=1e6, description="beta = gamma * alpha weights the term.")] = 0.1
    order: Annotated[PositiveFloat, Field(le=100.0, description="Order of the matrix-based Renyi entropy.")] = 2.0
    sign: Annotated[
        Literal["penalize", "reward"], Field(description="penalize adds the term to the loss, reward subtracts it.")
    ] = "penalize"
    start_epoch: Annotated[int, Field(ge=0, description="Epochs before the term joins the loss.")] = 0


class ObjectiveSpec(Section):
    """The AdaDim loss: its two losses, the policy that weights them, and the mutual-information term."""

    dimension_loss: DimensionLoss = VICReg()
    sample_loss: NTXent = NTXent()
    weighting: Weighting = AdaptiveWeighting()
    mutual_information: MutualInformationSpec = MutualInformationSpec()
