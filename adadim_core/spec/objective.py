"""The objective section: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z), beta = gamma * alpha."""

from typing import Annotated, Literal

from pydantic import Field

from adadim_core.spec.base import NonNegativeFloat, PositiveFloat, Section
from adadim_core.spec.losses import DimensionLoss, NTXent, SampleLoss, VICReg
from adadim_core.spec.weightings import AdaptiveWeighting, Weighting


class MutualInformationSpec(Section):
    """The I(R;Z) term of the loss. I(R;Z) is measured and logged for any gamma."""

    gamma: Annotated[NonNegativeFloat, Field(le=1e6, description="beta = gamma * alpha weights the term.")] = 0.1
    order: Annotated[PositiveFloat, Field(le=100.0, description="Order of the matrix-based Renyi entropy.")] = 2.0
    sign: Annotated[
        Literal["penalize", "reward"], Field(description="penalize adds the term to the loss, reward subtracts it.")
    ] = "penalize"
    start_epoch: Annotated[int, Field(ge=0, description="Epochs before the term is added to the loss.")] = 0


class ObjectiveSpec(Section):
    """The AdaDim loss: its two losses, the policy that weights them, and the mutual-information term."""

    dimension_loss: DimensionLoss = VICReg()
    sample_loss: SampleLoss = NTXent()
    weighting: Weighting = AdaptiveWeighting()
    mutual_information: MutualInformationSpec = MutualInformationSpec()
