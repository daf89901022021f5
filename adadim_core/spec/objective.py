"""The objective section: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z), beta = gamma * alpha."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adadim_core.spec.base import NonNegativeFloat, PositiveFloat, Section
from adadim_core.spec.losses import DimensionLoss, NTXent, SampleLoss, VICReg
from adadim_core.spec.weightings import AdaptiveWeighting, Weighting

Balancing = Literal["none", "initial", "gradient"]


class MutualInformationSpec(Section):
    """The I(R;Z) term of the loss. I(R;Z) is measured and logged for any gamma."""

    gamma: Annotated[
        NonNegativeFloat, Field(le=1e6, description="beta = gamma * alpha weights the term; see schedule.")
    ] = 0.1
    order: Annotated[PositiveFloat, Field(le=100.0, description="Order of the matrix-based Renyi entropy.")] = 2.0
    sign: Annotated[
        Literal["penalize", "reward"], Field(description="penalize adds the term to the loss, reward subtracts it.")
    ] = "penalize"
    schedule: Annotated[
        Literal["follow", "fixed", "linear", "cosine"],
        Field(
            description="beta / gamma over training. follow: alpha. fixed: 1. linear, cosine: from 0 at the first step "
            "to 1 at the last."
        ),
    ] = "follow"
    lag_epochs: Annotated[
        int, Field(ge=0, le=100_000, description="Epochs by which beta comes after its schedule; 0 until then.")
    ] = 0
    start_epoch: Annotated[int, Field(ge=0, description="Epochs before the term is added to the loss.")] = 0


class ObjectiveSpec(Section):
    """The AdaDim loss: its two losses, the policy that weights them, and the mutual-information term."""

    dimension_loss: DimensionLoss = VICReg()
    sample_loss: SampleLoss = NTXent()
    weighting: Weighting = AdaptiveWeighting()
    balancing: Annotated[
        Balancing,
        Field(
            description="What the two losses are divided by before they are weighted. none: nothing. initial: its "
            "value at the first step. gradient: the norm of its gradient at Z, at each step."
        ),
    ] = "none"
    form: Annotated[
        Literal["two_losses", "single_invariance"],
        Field(
            description="two_losses: each loss has its own term for the agreement of the views. single_invariance: "
            "VICReg's invariance stands outside alpha, which weighs variance and covariance against the log-sum-exp of "
            "NT-Xent's negatives."
        ),
    ] = "two_losses"
    mutual_information: MutualInformationSpec = MutualInformationSpec()

    @property
    def vicreg(self) -> VICReg:
        """The dimension loss where the form needs it to be VICReg."""
        if not isinstance(self.dimension_loss, VICReg):
            raise ValueError(
                f"form: single_invariance takes VICReg apart into its terms; {self.dimension_loss.name} has none like "
                "them, so use dimension_loss: {name: vicreg}"
            )
        return self.dimension_loss

    @model_validator(mode="after")
    def _form_fits(self) -> Self:
        if self.form == "single_invariance":
            _ = self.vicreg
            if self.balancing != "none":
                raise ValueError(
                    f"balancing: {self.balancing} makes two losses equal, and form: single_invariance has three terms; "
                    "leave one of them out"
                )
        return self
