"""The AdaDim objective: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z).

Owns how the losses are put together. Does not own the formulas (losses, information) or the weights (weighting).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import torch
from torch import Tensor

from adadim_core.balancing import LossBalance
from adadim_core.information import mutual_information
from adadim_core.losses import LossValue, dimension_loss, negatives_loss, sample_loss, vicreg_invariance, vicreg_spread
from adadim_core.spec.objective import ObjectiveSpec

Weight = float | Tensor


def weighs(weight: Weight) -> bool:
    """Whether a loss of this weight is part of the graph; one whose weight is known to be 0 is left out."""
    return isinstance(weight, Tensor) or weight != 0


@dataclass(frozen=True)
class ObjectiveTerms:
    """The objective of one batch and its parts, as scalar tensors."""

    total: Tensor
    """What is minimised."""
    dimension: Tensor
    """L_dimension, before its weight."""
    sample: Tensor
    """L_sample, before its weight."""
    information: Tensor | None
    """Uncentred I(R;Z), before beta; None where beta is 0 and it was not computed."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """What the losses are made of, by metric name, before the weights: VICReg's three terms, for one."""

    def detach(self) -> "ObjectiveTerms":
        """The same without gradients, and without what they would be computed from."""
        return ObjectiveTerms(
            self.total.detach(),
            self.dimension.detach(),
            self.sample.detach(),
            None if self.information is None else self.information.detach(),
            {name: part.detach() for name, part in self.parts.items()},
        )


def objective(
    spec: ObjectiveSpec,
    z1: Tensor,
    z2: Tensor,
    r1: Tensor | None,
    *,
    alpha: Weight,
    beta: Weight,
    balance: LossBalance | None = None,
) -> ObjectiveTerms:
    """The objective of two views.

    A loss whose weight is 0 is computed, since it is logged, but is not part of the graph.

    With `form: single_invariance` it is w_s s + (1 - alpha) (w_v v + w_c c) + alpha * negatives + beta I(R;Z), weights
    and terms those of VICReg, the negatives those of `losses.negatives_loss`.

    The I(R;Z) term is that of the first view: both views have the same distribution, so its expectation is that of
    either.

    Args:
        spec: which losses, with their settings.
        z1, z2: (N, D_z) embeddings of the two views.
        r1: (N, D_r) representations of the first view; may be None where beta is 0.
        alpha: weight of the sample-contrastive loss; 1 - alpha weights the dimension-contrastive one.
        beta: signed weight of the I(R;Z) term; at 0 the term is not part of the graph. A weight may be a scalar tensor,
            which nothing waits for: its loss is part of the graph whatever its value.
        balance: what the two losses are divided by, where the spec says so; None: nothing.

    Raises:
        ValueError: beta is not 0 and r1 is None, or the shapes do not fit.
    """

    def computed(loss: Callable[[], LossValue], weight: Weight) -> LossValue:
        """A loss; without weight it costs no gradient."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and weighs(weight)):
            return loss()

    def information_term() -> LossValue:
        if r1 is None:
            raise ValueError("the I(R;Z) term needs R")
        return LossValue(mutual_information(r1, z1, order=spec.mutual_information.order))

    dimension_of, sample_of, shared = _losses_of(spec, z1, z2)
    rest = 1 - alpha
    dimension, sample = computed(dimension_of, rest), computed(sample_of, alpha)
    information = computed(information_term, beta).total if weighs(beta) else None
    by_dimension, by_sample = (balance or _UNBALANCED).factors((dimension.total, sample.total), (z1, z2))
    weighted = [(rest, by_dimension, dimension.total), (alpha, by_sample, sample.total)]
    weighted += [(1.0, 1.0, shared.total)] if shared is not None else []
    weighted += [(beta, 1.0, information)] if information is not None else []
    # What has no weight stays out of the sum, and its infinities with it.
    total = functools.reduce(
        torch.add, [_times(weight, factor) * loss for weight, factor, loss in weighted if weighs(weight)]
    )
    parts = {**dimension.parts, **sample.parts, **(shared.parts if shared is not None else {})}
    return ObjectiveTerms(total, dimension.total, sample.total, information, parts)


_UNBALANCED = LossBalance("none")


def _times(weight: Weight, factor: Weight) -> Weight:
    """Their product; on a GPU a factor of 1 costs no operation."""
    return weight if isinstance(factor, float) and factor == 1 else weight * factor


def _losses_of(
    spec: ObjectiveSpec, z1: Tensor, z2: Tensor
) -> tuple[Callable[[], LossValue], Callable[[], LossValue], LossValue | None]:
    """What 1 - alpha and alpha weigh, and what stands outside, by the form of the objective."""
    match spec.form:
        case "two_losses":
            return (
                lambda: dimension_loss(spec.dimension_loss, z1, z2),
                lambda: sample_loss(spec.sample_loss, z1, z2),
                None,
            )
        case "single_invariance":
            vicreg, temperature = spec.vicreg, spec.sample_loss.temperature
            return (
                lambda: vicreg_spread(vicreg, z1, z2),
                lambda: LossValue(negatives_loss(z1, z2, temperature=temperature)),
                vicreg_invariance(vicreg, z1, z2),
            )
        case _ as forgotten:
            assert_never(forgotten)
