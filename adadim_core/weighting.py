"""alpha and beta: how the two losses and the I(R;Z) term are weighted at each moment of training.

Owns the policies and the state of the adaptive one. Does not own the measurement of the effective rank (trainer).
"""

import math
from typing import Any, assert_never

from adadim_core.spec.objective import ObjectiveSpec
from adadim_core.spec.weightings import (
    AdaptiveWeighting,
    CosineWeighting,
    FixedWeighting,
    LinearWeighting,
    Normalizer,
    Weighting,
)

# A forward pass of one view costs a sixth of a step: this many steps per measured batch keep the cost under 1 %.
_STEPS_A_BATCH = 20


def alpha_from_rank(
    rank: float, *, n: int, d: int, normalizer: Normalizer = "min", lowest: float | None = None
) -> float:
    """alpha of an effective rank of Z, in [0, 1].

    min: rank / min(n - 1, d), the largest rank a centred batch can have. dim: rank / d. log: log rank over
    log min(n - 1, d). gain: (rank - lowest) / (min(n - 1, d) - lowest), so 0 until the rank rises.

    Args:
        rank: effective rank of centred Z.
        n: rows it was measured on.
        d: D_z, dimensions of Z.
        lowest: for gain, the lowest rank measured before; None: this is the first.

    Returns:
        The share, or NaN where the rank is NaN.

    Raises:
        ValueError: n < 2, d < 1 or an unknown normaliser.
    """
    rank = float(rank)  # a tensor of one number serves as well
    if n < 2 or d < 1:
        raise ValueError(f"n >= 2 and d >= 1 are needed, not {n} and {d}")
    if math.isnan(rank):
        return math.nan
    full = min(n - 1, d)
    match normalizer:
        case "min":
            share = rank / full
        case "dim":
            share = rank / d
        case "log":
            share = math.log(max(rank, 1.0)) / math.log(full) if full > 1 else 1.0
        case "gain":
            lowest = rank if lowest is None else min(lowest, rank)
            share = (rank - lowest) / (full - lowest) if full > lowest else 0.0
        case _:
            raise ValueError(f"min, dim, log or gain is needed, not {normalizer!r}")
    return min(max(share, 0.0), 1.0)


def weights_at(
    step: int, spec: ObjectiveSpec, policy: "AlphaPolicy", *, steps_per_epoch: int, epochs: int
) -> tuple[float, float]:
    """alpha and beta of a step, as they enter the loss.

    beta = gamma * s, s by the schedule as it was `lag_epochs` epochs before, negative where I(R;Z) is rewarded, 0
    before `start_epoch` and within the first `lag_epochs`.

    Args:
        step: steps done.
        spec: gamma, sign, schedule, lag and start.
        policy: alpha, with what was measured so far.
        steps_per_epoch: of the training.
        epochs: of the whole training.
    """
    last = max(steps_per_epoch * epochs - 1, 1)
    epoch, alpha = step // steps_per_epoch, policy.alpha(step / last)
    term = spec.mutual_information
    then = step - term.lag_epochs * steps_per_epoch
    if then < 0 or epoch < term.start_epoch or term.gamma == 0:
        return alpha, 0.0
    match term.schedule:
        case "follow":
            share = policy.alpha(then / last, before_epoch=epoch - term.lag_epochs + 1) if term.lag_epochs else alpha
        case "fixed":
            share = 1.0
        case "linear":
            share = then / last
        case "cosine":
            share = half_cosine(then / last)
        case _ as forgotten:
            assert_never(forgotten)
    beta = term.gamma * share
    return alpha, -beta if beta and term.sign == "reward" else beta


def half_cosine(progress: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2


class AlphaPolicy:
    """Gives alpha for each step by the policy of the spec. Only the adaptive policy has state: what it measured."""

    def __init__(self, spec: Weighting) -> None:
        self._spec = spec
        self._measured: list[tuple[int, float]] = []
        """Epoch and alpha of each measurement, in order."""
        self._lowest: float | None = None
        """The lowest rank so far."""

    @property
    def pooled_rows(self) -> int | None:
        """Over how many embeddings one rank is measured; None: the ranks of batches are averaged."""
        return self._spec.rows if isinstance(self._spec, AdaptiveWeighting) else None

    def measurement_batches(self, epoch: int, *, steps: int, batch_size: int) -> int:
        """How many batches of Z to measure before this epoch (counted from 0); 0 when none is due.

        As many as hold the pooled rows, at most all of an epoch. Without pooling no more than a twentieth of the
        epoch's steps, but at least one.
        """
        if not isinstance(self._spec, AdaptiveWeighting) or epoch % self._spec.every_epochs:
            return 0
        if self._spec.rows is not None:
            return min(-(-self._spec.rows // batch_size), steps)
        return min(self._spec.batches, max(1, steps // _STEPS_A_BATCH))

    def observe(self, rank: float, *, n: int, d: int, epoch: int) -> None:
        """Take a measured effective rank of Z. A rank that is not finite leaves alpha as it was.

        Args:
            rank: effective rank of the pooled rows, or mean of those of the batches.
            n: rows that a rank was measured on.
            d: dimensions of Z.
            epoch: epochs completed.
        """
        spec = self._spec
        if not isinstance(spec, AdaptiveWeighting) or not math.isfinite(rank):
            return
        share = alpha_from_rank(rank, n=n, d=d, normalizer=spec.normalizer, lowest=self._lowest)
        self._lowest = rank if self._lowest is None else min(self._lowest, rank)
        if self._measured:
            share = spec.smoothing * self._measured[-1][1] + (1 - spec.smoothing) * share
        self._measured.append((epoch, _clamp(share, spec)))

    def alpha(self, progress: float, *, before_epoch: int | None = None) -> float:
        """alpha, in [0, 1].

        Args:
            progress: share of the training steps done, 0 at the first step and 1 at the last.
            before_epoch: take only what was measured before this epoch; None: all.
        """
        match self._spec:
            case AdaptiveWeighting() as spec:
                known = (
                    alpha for epoch, alpha in reversed(self._measured) if before_epoch is None or epoch < before_epoch
                )
                # Before any measurement (or with none that was finite) the rank counts as nothing.
                return _clamp(next(known, 0.0), spec)
            case FixedWeighting(alpha=alpha):
                return alpha
            case LinearWeighting(start=start, end=end):
                return (1 - progress) * start + progress * end
            case CosineWeighting(start=start, end=end):
                share = half_cosine(progress)
                return (1 - share) * start + share * end
            case _ as forgotten:
                assert_never(forgotten)

    def state_dict(self) -> dict[str, Any]:
        return {"measured": self._measured, "lowest": self._lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "adaptive_alpha" in state:  # of a version that kept the last alpha only
            last = state["adaptive_alpha"]
            self._measured, self._lowest = ([] if last is None else [(-1, last)]), None
            return
        self._measured = [(epoch, alpha) for epoch, alpha in state["measured"]]
        self._lowest = state["lowest"]


def _clamp(alpha: float, spec: AdaptiveWeighting) -> float:
    return max(min(alpha, spec.ceiling), spec.floor)
