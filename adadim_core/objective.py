"""The AdaDim objective: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z).

Owns how the losses are put together. Does not own the formulas (losses, information) or the weights (weighting).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adadim_core.information import mutual_information
from adadim_core.losses import LossValue, dimension_loss, sample_loss
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
    spec: ObjectiveSpec, z1: Tensor, z2: Tensor, r1: Tensor | None, *, alpha: Weight, beta: Weight
) -> ObjectiveTerms:
    """The objective of two views.

    A loss whose weight is 0 is computed, since it is logged, but is not part of the graph.

    The I(R;Z) term is that of the first view: both views have the same distribution, so its expectation is that of
    either.

    Args:
        spec: which losses, with their settings.
        z1, z2: (N, D_z) embeddings of the two views.
        r1: (N, D_r) representations of the first view; may be None where beta is 0.
        alpha: weight of the sample-contrastive loss; 1 - alpha weights the dimension-contrastive one.
        beta: signed weight of the I(R;Z) term; at 0 the term is not part of the graph. A weight may be a scalar tensor,
            which nothing waits for: its loss is part of the graph whatever its value.

    Raises:
        ValueError: beta is not 0 and r1 is None, or the shapes do not fit.
    """
    weighted: list[Tensor] = []

    def add(loss: Callable[[], LossValue], weight: Weight) -> LossValue:
        """A loss, with its share of the total. Without weight it costs no gradient, and its infinities stay out."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and weighs(weight)):
            value = loss()
        if weighs(weight):
            weighted.append(weight * value.total)
        return value

    def information_term() -> LossValue:
        if r1 is None:
            raise ValueError("the I(R;Z) term needs R")
        return LossValue(mutual_information(r1, z1, order=spec.mutual_information.order))

    dimension = add(lambda: dimension_loss(spec.dimension_loss, z1, z2), 1 - alpha)
    sample = add(lambda: sample_loss(spec.sample_loss, z1, z2), alpha)
    information = add(information_term, beta).total if weighs(beta) else None
    total = functools.reduce(torch.add, weighted)
    return ObjectiveTerms(total, dimension.total, sample.total, information, {**dimension.parts, **sample.parts})
