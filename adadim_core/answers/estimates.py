"""The statistics of an answer: intervals of means, paired differences of all pairs, Holm's adjustment, seeds needed.

Owns every formula that docs/answers.md lists but Kendall's tau (ranking.py). Does not own which trials count or how the
numbers are worded.

Shapes: `values` is (K, S): of K configurations and S seeds, one number per replicate, NaN where there is none.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from adadim_core.answers.student import Floats, quantile, tail

ALPHA = 0.05
"""One minus the confidence of every interval, and the family-wise error of all comparisons of a sweep together."""
_POWER = 0.8
_LARGEST_TEST_SET = 200_000
_DIFFERENT_SHARES = 4
"""Of a test set of 10,000, four values that all happen to be tenths of a percent come once in 10,000 sweeps."""


@dataclass(frozen=True)
class Mean:
    """A mean with its spread and its 95 % interval; without a second value neither is known."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def mean_interval(values: Floats, *, step: float = 0.0) -> Mean:
    """Mean, standard deviation and the 95 % t interval mean ± t(0.975, n - 1) sd / sqrt(n) of finite values.

    Args:
        values: (n,) with n >= 1.
        step: the metric's resolution. The spread counts as no smaller than that of rounding to it, step / sqrt(12).
    """
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Mean(n, mean, None, None, None)
    sd = float(values.std(ddof=1))
    half = quantile(ALPHA, n - 1) * max(sd, step / math.sqrt(12)) / math.sqrt(n)
    return Mean(n, mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class Pairs:
    """Paired differences of all pairs of configurations, first minus second, over the seeds that both have.

    Arrays of K (K - 1) / 2 entries. A pair with fewer than two common seeds, or whose differences are all the same and
    not zero, cannot be tested: its p values are NaN.
    """

    count: int
    """K."""
    n: np.ndarray
    """Common seeds."""
    mean: Floats
    sd: Floats
    """Of the differences, as tested: no smaller than rounding alone would have it."""
    p: Floats
    """Two-sided, of the paired t test."""
    adjusted: Floats
    """After Holm's adjustment over all pairs."""
    alpha: float
    """Family-wise error of all of them together."""
    level: float
    """1 - level is the confidence of the intervals that agree with Holm's verdict: they exclude 0 just where
    `adjusted` is at most `alpha`."""

    def index(self, first: int, second: int) -> int:
        """Position of the pair first < second."""
        return first * (2 * self.count - first - 1) // 2 + second - first - 1

    def of_two(self, one: int, other: int) -> int:
        """Position of the pair of two, in either order."""
        return self.index(min(one, other), max(one, other))

    def paired(self, one: int, other: int) -> float:
        """Mean of one minus the other over their common seeds."""
        mean = float(self.mean[self.of_two(one, other)])
        return mean if one < other else -mean

    def has_test(self, one: int, other: int) -> bool:
        """Whether the two are tested against each other."""
        return bool(np.isfinite(self.p[self.of_two(one, other)]))

    @property
    def different(self) -> np.ndarray:
        """Whether each pair differs beyond doubt."""
        return self.adjusted <= self.alpha  # NaN is not

    @property
    def tested(self) -> int:
        """Size of the family."""
        return int(np.isfinite(self.p).sum())

    def half_width(self, pair: int, level: float) -> float:
        """Half the width of a tested pair's interval at confidence 1 - level."""
        n = int(self.n[pair])
        return quantile(level, n - 1) * float(self.sd[pair]) / math.sqrt(n)


def compare(values: Floats, *, step: float = 0.0, alpha: float = ALPHA) -> Pairs:
    """Paired t tests of all pairs of configurations with Holm's adjustment.

    All pairs are the family, not only those with the best: which configuration is best was read off the same data.

    Args:
        values: (K, S), finite, or NaN where a configuration has no replicate of the seed.
        step: the metric's resolution. Differences spread no less than those of two rounded numbers, step / sqrt(6).
        alpha: the family-wise error of all comparisons together.
    """
    k = len(values)
    first, second = np.triu_indices(k, 1)
    differences = values[first] - values[second]
    there = np.isfinite(differences)
    n = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, differences, 0.0).sum(axis=1) / n
        squares = np.where(there, differences - mean[:, None], 0.0) ** 2
        sd = np.maximum(np.sqrt(squares.sum(axis=1) / (n - 1)), step / math.sqrt(6))
        # Sums of equal numbers round: what spreads by no more than that does not spread.
        sd[sd <= 4 * np.finfo(float).eps * np.nanmax(np.abs(values), initial=0.0)] = 0.0
        t = np.where(sd > 0, mean / (sd / np.sqrt(n)), np.nan)
    p = np.where((sd == 0) & (n >= 2), np.where(mean == 0, 1.0, np.nan), tail(t, n - 1))
    adjusted = holm(p)
    open_pairs = int((np.isfinite(p) & ~(adjusted <= alpha)).sum())
    return Pairs(k, n, mean, sd, p, adjusted, alpha, alpha / max(open_pairs, 1))


def holm(p: Floats) -> Floats:
    """Holm's adjusted p values (1979): p_(i) becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1.

    NaN means no test: it stays NaN and does not count in m.
    """
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0) if len(order) else []
    return adjusted


def adjusted_means(values: Floats) -> Floats:
    """Means of configurations as if all had all seeds: least squares of configuration plus seed (Searle et al. 1980).

    If none is missing, they are the plain means. Otherwise, a configuration does not lead for having had the easier
    seeds. Of seeds that nothing links to the others, no effect is known.

    Args:
        values: (K, S), with a finite value in each row; NaN where there is no replicate.
    """
    there = np.isfinite(values)
    if there.all():
        means: Floats = values.mean(axis=1)
        return means
    counts = there.sum(axis=1)
    plain = np.where(there, values, 0.0).sum(axis=1) / counts
    # The normal equations without the configurations, of which there may be hundreds. The least-norm effects of seeds
    # sum to zero over all configurations that are linked by common seeds.
    equations = np.diag(there.sum(axis=0)) - there.T @ (there / counts[:, None])
    left = np.where(there, values - plain[:, None], 0.0).sum(axis=0)
    effects = np.linalg.pinv(equations, rcond=1e-9, hermitian=True) @ left
    adjusted: Floats = plain - there @ effects / counts
    return adjusted


def seeds_to_settle(difference: float, sd: float, level: float) -> int | None:
    """Seeds at which a paired t test at this level would tell a difference from 0 in four of five cases.

    n = (z(1 - level / 2) + z(0.8))^2 (sd / difference)^2 + z(1 - level / 2)^2 / 2 (Guenther 1981), if the true
    difference and spread equal the observed ones. None if the difference is zero.
    """
    if difference == 0:
        return None
    critical = NormalDist().inv_cdf(1 - level / 2)
    needed = ((critical + NormalDist().inv_cdf(_POWER)) * sd / difference) ** 2 + critical**2 / 2
    return max(2, math.ceil(needed)) if needed < 1e9 else None


def image_count(shares: Floats) -> int | None:
    """How many images shares of them are of: the smallest M of which every share is a whole number of M-th parts.

    With several different values that is the size of the test set, or a divisor of it. None if there is none up to
    200,000, or too few values differ to tell: a single 0.5 is of any even number.
    """
    different = np.unique(shares[np.isfinite(shares)]).tolist()
    if len(different) < _DIFFERENT_SHARES:
        return None
    size = 1
    for share in different:
        fraction = Fraction(share).limit_denominator(_LARGEST_TEST_SET)
        if abs(float(fraction) - share) > 2 * math.ulp(share):
            return None
        size = math.lcm(size, fraction.denominator)
        if size > _LARGEST_TEST_SET:
            return None
    return size


def binomial_error(share: float, images: int) -> float:
    """Standard error of a share of `images` under resampling: sqrt(p (1 - p) / M)."""
    return math.sqrt(max(share * (1 - share), 0.0) / images)
