"""alpha and beta: how the two losses and the I(R;Z) term are weighted at each moment of training.

Owns the policies and the state of the adaptive one. Does not own the measurement of the effective rank (trainer).
"""

import math
from typing import Any, Literal, assert_never

from adadim_core.spec.objective import MutualInformationSpec
from adadim_core.spec.weightings import (
    AdaptiveWeighting,
    CosineWeighting,
    FixedWeighting,
    LinearWeighting,
    Weighting,
)

# A forward pass of one view costs a sixth of a step: this many steps per measured batch keep the cost under 1 %.
_STEPS_A_BATCH = 20


def alpha_from_rank(rank: float, *, n: int, d: int, normalizer: Literal["min", "dim", "log"] = "min") -> float:
    """alpha of an effective rank of Z, in [0, 1].

    min: rank / min(n - 1, d), the largest rank a centred batch can have. dim: rank / d. log: log rank over
    log min(n - 1, d).

    Args:
        rank: effective rank of centred Z.
        n: rows of the batch it was measured on.
        d: D_z, dimensions of Z.

    Returns:
        The share, or NaN where the rank is NaN.

    Raises:
        ValueError: n < 2, d < 1 or an unknown normaliser.
    """
    rank = float(rank)  # a tensor of one number serves as well
    if n < 2 or d < 1 or normalizer not in ("min", "dim", "log"):
        raise ValueError(f"n >= 2, d >= 1 and min, dim or log are needed, not {n}, {d} and {normalizer!r}")
    if math.isnan(rank):
        return math.nan
    full = min(n - 1, d)
    if normalizer == "log":
        share = math.log(max(rank, 1.0)) / math.log(full) if full > 1 else 1.0
    else:
        share = rank / (full if normalizer == "min" else d)
    return min(max(share, 0.0), 1.0)


def mutual_information_weight(spec: MutualInformationSpec, *, alpha: float, epoch: int) -> float:
    """beta as it enters the loss: gamma * alpha, negative where I(R;Z) is rewarded, 0 before `start_epoch`.

    Args:
        spec: gamma, sign and start.
        alpha: weight of the sample-contrastive loss.
        epoch: epochs completed.
    """
    if epoch < spec.start_epoch or spec.gamma == 0 or alpha == 0:
        return 0.0
    return spec.gamma * alpha * (1.0 if spec.sign == "penalize" else -1.0)


class AlphaPolicy:
    """Gives alpha for each step by the policy of the spec. Only the adaptive policy has state: its current alpha."""

    def __init__(self, spec: Weighting) -> None:
        self._spec = spec
        self._adaptive_alpha: float | None = None

    def measurement_batches(self, epoch: int, *, steps: int) -> int:
        """How many batches of Z to measure before this epoch (counted from 0); 0 when none is due.

        No more than a twentieth of the epoch's steps, but at least one.
        """
        if not isinstance(self._spec, AdaptiveWeighting) or epoch % self._spec.every_epochs:
            return 0
        return min(self._spec.batches, max(1, steps // _STEPS_A_BATCH))

    def observe(self, rank: float, *, n: int, d: int) -> None:
        """Take a measured effective rank of Z. A rank that is not finite leaves alpha as it was.

        Args:
            rank: mean effective rank of the measured batches.
            n: rows of each batch.
            d: dimensions of Z.
        """
        spec = self._spec
        if not isinstance(spec, AdaptiveWeighting) or not math.isfinite(rank):
            return
        share = alpha_from_rank(rank, n=n, d=d, normalizer=spec.normalizer)
        if self._adaptive_alpha is not None:
            share = spec.smoothing * self._adaptive_alpha + (1 - spec.smoothing) * share
        self._adaptive_alpha = _clamp(share, spec)

    def alpha(self, progress: float) -> float:
        """alpha, in [0, 1].

        Args:
            progress: share of the training steps done, 0 at the first step and 1 at the last.
        """
        match self._spec:
            case AdaptiveWeighting() as spec:
                # Before any measurement (or with none that was finite) the rank counts as nothing.
                return _clamp(0.0, spec) if self._adaptive_alpha is None else self._adaptive_alpha
            case FixedWeighting(alpha=alpha):
                return alpha
            case LinearWeighting(start=start, end=end):
                return (1 - progress) * start + progress * end
            case CosineWeighting(start=start, end=end):
                share = (1 - math.cos(math.pi * progress)) / 2
                return (1 - share) * start + share * end
            case _ as forgotten:
                assert_never(forgotten)

    def state_dict(self) -> dict[str, Any]:
        return {"adaptive_alpha": self._adaptive_alpha}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        alpha, spec = state["adaptive_alpha"], self._spec
        # The bounds are those of this spec, not of the one the state was trained with.
        if alpha is not None and isinstance(spec, AdaptiveWeighting):
            alpha = _clamp(alpha, spec)
        self._adaptive_alpha = alpha


def _clamp(alpha: float, spec: AdaptiveWeighting) -> float:
    return max(min(alpha, spec.ceiling), spec.floor)
