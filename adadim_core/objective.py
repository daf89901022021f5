"""The AdaDim objective: L = (1 - alpha) * L_dimension + alpha * L_sample + beta * I(R;Z).

Owns how a spec's losses are picked and put together. Does not own the formulas (losses, information) or the
weights (weighting).
"""

from dataclasses import dataclass

from torch import Tensor

from adadim_core.information import mutual_information
from adadim_core.losses import barlow_twins_loss, nt_xent_loss, vicreg_loss
from adadim_core.spec.objective import DimensionLoss, ObjectiveSpec, VICReg


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


def objective(
    spec: ObjectiveSpec, z1: Tensor, z2: Tensor, r1: Tensor | None, *, alpha: float, beta: float
) -> ObjectiveTerms:
    """The objective of two views.

    The I(R;Z) term is that of the first view: the views are drawn alike, so its expectation is that of either.

    Args:
        spec: which losses, with their settings.
        z1, z2: (N, D_z) embeddings of the two views.
        r1: (N, D_r) representations of the first view; may be None where beta is 0.
        alpha: weight of the sample-contrastive loss; 1 - alpha weights the dimension-contrastive one.
        beta: signed weight of the I(R;Z) term; at 0 the term is no part of the graph.

    Raises:
        ValueError: beta is not 0 and r1 is None, or the shapes do not fit.
    """
    dimension = dimension_loss(spec.dimension_loss, z1, z2)
    sample = nt_xent_loss(z1, z2, temperature=spec.sample_loss.temperature)
    total = (1 - alpha) * dimension + alpha * sample
    if beta == 0:
        return ObjectiveTerms(total, dimension, sample, None)
    if r1 is None:
        raise ValueError("the I(R;Z) term needs R")
    information = mutual_information(r1, z1, order=spec.mutual_information.order)
    return ObjectiveTerms(total + beta * information, dimension, sample, information)


def dimension_loss(spec: DimensionLoss, z1: Tensor, z2: Tensor) -> Tensor:
    """The dimension-contrastive loss the spec names."""
    if isinstance(spec, VICReg):
        return vicreg_loss(z1, z2, invariance=spec.invariance, variance=spec.variance, covariance=spec.covariance)
    return barlow_twins_loss(z1, z2, redundancy=spec.redundancy)
