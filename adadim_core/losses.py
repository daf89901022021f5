"""The two families of losses that AdaDim weights, as pure functions of two views' embeddings.

Owns the formulas, and which of them a section of the spec selects. Does not own how they are weighted (objective,
weighting) or gathered (distributed).

Shapes: N images, D dimensions; z1 and z2 are two views of the same images, row by row. Every function computes at least
in float32, even under autocast, and returns a scalar tensor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, relu

from adadim_core.precision import full_precision
from adadim_core.rows import unit_rows
from adadim_core.spec.losses import BarlowTwins, DimensionLoss, NTXent, SampleLoss, VICReg


@dataclass(frozen=True)
class LossValue:
    """A loss of a batch, with its terms."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Its terms by metric name, before their weights, where they are worth logging."""


def dimension_loss(settings: DimensionLoss, z1: Tensor, z2: Tensor) -> LossValue:
    """The dimension-contrastive loss that a spec names.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, or N < 2.
    """
    match settings:
        case VICReg(invariance=invariance, variance=variance, covariance=covariance):
            terms = vicreg_terms(z1, z2)
            total = terms.weighted(invariance=invariance, variance=variance, covariance=covariance)
            return LossValue(total, {f"loss_{name}": term for name, term in terms._asdict().items()})
        case BarlowTwins(redundancy=redundancy):
            return LossValue(barlow_twins_loss(z1, z2, redundancy=redundancy))
        case _ as forgotten:
            assert_never(forgotten)


def sample_loss(settings: SampleLoss, z1: Tensor, z2: Tensor) -> LossValue:
    """The sample-contrastive loss that a spec names.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, or N < 2.
    """
    match settings:
        case NTXent(temperature=temperature):
            return LossValue(nt_xent_loss(z1, z2, temperature=temperature))
        case _ as forgotten:
            assert_never(forgotten)


@full_precision
def nt_xent_loss(z1: Tensor, z2: Tensor, *, temperature: float = 0.2) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al. 2020, equation 1): the sample-contrastive loss.

    Each of the 2N embeddings is an anchor: its other view is the positive, the remaining 2N - 2 are negatives,
    the anchor itself is left out. Cosine similarity, 0 with a zero row. Mean over anchors, in nats.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, N < 2, or the temperature is not positive.
    """
    return cross_entropy(*_contrasts(z1, z2, temperature))


@full_precision
def negatives_loss(z1: Tensor, z2: Tensor, *, temperature: float = 0.2) -> Tensor:
    """The part of NT-Xent that spreads samples: log-sum-exp of an anchor's similarities to its negatives.

    The negatives are the 2N - 2 other embeddings without the anchor's other view, as in Yeh et al. 2022 (decoupled
    contrastive learning). Mean over the 2N anchors, in nats; less the positive's similarity it is their loss.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, N < 2, or the temperature is not positive.
    """
    logits_2N2N, partner_2N = _contrasts(z1, z2, temperature)
    anchor_2N = torch.arange(len(partner_2N), device=partner_2N.device)
    logits_2N2N = logits_2N2N.index_put((anchor_2N, partner_2N), logits_2N2N.new_full((), -math.inf))
    return logits_2N2N.logsumexp(dim=1).mean()


def _contrasts(z1: Tensor, z2: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(2N, 2N) similarities over the temperature, -inf with oneself, and the (2N,) row of each anchor's other view."""
    _require_pair(z1, z2, rows=2)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    n = z1.shape[0]
    u_2ND, _ = unit_rows(torch.cat([z1, z2]))
    logits_2N2N = (u_2ND @ u_2ND.T) / temperature
    logits_2N2N = logits_2N2N.fill_diagonal_(-math.inf)
    return logits_2N2N, torch.arange(2 * n, device=u_2ND.device).roll(n)


@full_precision
def vicreg_loss(
    z1: Tensor, z2: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Variance-invariance-covariance regularisation (Bardes et al. 2022): the default dimension-contrastive loss.

    Weighted as in the authors' repository: the variance term is the mean over the two views, the covariance
    term their sum.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, or N < 2.
    """
    return vicreg_terms(z1, z2).weighted(invariance=invariance, variance=variance, covariance=covariance)


class VICRegTerms(NamedTuple):
    """The terms of `vicreg_loss` before their weights, as scalar tensors."""

    invariance: Tensor
    variance: Tensor
    """Mean over the two views."""
    covariance: Tensor
    """Sum over the two views."""

    def weighted(self, *, invariance: float, variance: float, covariance: float) -> Tensor:
        """The loss: each term times its weight."""
        return invariance * self.invariance + variance * self.variance + covariance * self.covariance


def vicreg_terms(z1: Tensor, z2: Tensor) -> VICRegTerms:
    """The three terms of VICReg over two views, which `vicreg_loss` weights and adds.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, or N < 2.
    """
    _require_pair(z1, z2, rows=2)
    return VICRegTerms(invariance_term(z1, z2), *_variance_and_covariance(z1, z2))


def _variance_and_covariance(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the two views' variance terms, and the sum of their covariance terms."""
    return (variance_term(z1) + variance_term(z2)) / 2, covariance_term(z1) + covariance_term(z2)


def vicreg_invariance(settings: VICReg, z1: Tensor, z2: Tensor) -> LossValue:
    """The weighted invariance of VICReg alone: what makes the two views agree."""
    term = invariance_term(z1, z2)
    return LossValue(settings.invariance * term, {"loss_invariance": term})


def vicreg_spread(settings: VICReg, z1: Tensor, z2: Tensor) -> LossValue:
    """VICReg without its invariance: the weighted variance and covariance, which keep dimensions apart."""
    variance, covariance = _variance_and_covariance(z1, z2)
    total = settings.variance * variance + settings.covariance * covariance
    return LossValue(total, {"loss_variance": variance, "loss_covariance": covariance})


@full_precision
def invariance_term(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared difference of the two views over all N * D entries (VICReg's s)."""
    _require_pair(z1, z2)
    return mse_loss(z1, z2)


@full_precision
def variance_term(z: Tensor, *, target: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """Hinge on the standard deviations: mean over D of max(0, target - sqrt(Var + epsilon)) (VICReg's v).

    Raises:
        ValueError: z is not a matrix (N, D) of at least two rows.
    """
    _require_rows(z)
    return relu(target - torch.sqrt(z.var(dim=0) + epsilon)).mean()


@full_precision
def covariance_term(z: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of the covariance matrix, over D (VICReg's c).

    With N < D the squared norm of the (D, D) covariance is taken from the (N, N) Gram matrix, which has the
    same one: D / N times fewer operations.

    Raises:
        ValueError: z is not a matrix (N, D) of at least two rows.
    """
    _require_rows(z)
    n, d = z.shape
    c_ND = z - z.mean(dim=0)
    small = c_ND @ c_ND.T if n < d else c_ND.T @ c_ND
    squared_norm = small.square().sum() / (n - 1) ** 2
    variance_D = c_ND.square().sum(dim=0) / (n - 1)
    return (squared_norm - variance_D.square().sum()) / d


@full_precision
def barlow_twins_loss(z1: Tensor, z2: Tensor, *, redundancy: float = 0.0051) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021): the views' cross-correlation matrix C is driven to the identity.

    sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2, where each dimension is standardised over the batch
    with the biased variance and 1e-5 added, as the BatchNorm of the authors' repository does.

    With N < D the squared norm of the (D, D) matrix C is taken from the two (N, N) Gram matrices.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape, or N < 2.
    """
    _require_pair(z1, z2, rows=2)
    n, d = z1.shape
    a_ND, b_ND = _standardize(z1), _standardize(z2)
    diagonal_D = (a_ND * b_ND).sum(dim=0) / n
    if n < d:
        squared_norm = ((a_ND @ a_ND.T) * (b_ND @ b_ND.T)).sum() / n**2
    else:
        squared_norm = (a_ND.T @ b_ND).square().sum() / n**2
    off_diagonal = squared_norm - diagonal_D.square().sum()
    return (1 - diagonal_D).square().sum() + redundancy * off_diagonal


def _standardize(z: Tensor) -> Tensor:
    variance_D, mean_D = torch.var_mean(z, dim=0, correction=0)
    return (z - mean_D) * torch.rsqrt(variance_D + 1e-5)


def _require_rows(z: Tensor) -> None:
    if z.ndim != 2 or z.shape[0] < 2:
        raise ValueError(f"a matrix (N, D) of at least two rows is needed, not {(*z.shape,)}")


def _require_pair(z1: Tensor, z2: Tensor, *, rows: int = 1) -> None:
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(f"two (N, D) matrices of one shape are needed, not {(*z1.shape,)} and {(*z2.shape,)}")
    if z1.shape[0] < rows:
        raise ValueError(f"a batch of at least {rows} is needed, not {z1.shape[0]}")
