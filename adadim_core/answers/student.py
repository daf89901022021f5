"""Student's t distribution for whole degrees of freedom, in closed form.

Owns tail probabilities and quantiles. A finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4) needs no scipy, which
the service does not install.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_PROBABILITY = 1e-12
"""Tails are exact to about 1e-16, so that smaller probabilities have no quantile worth the name."""


def tail(t: Floats, df: NDArray[np.int64]) -> Floats:
    """P(|T| >= |t|), elementwise: the two-sided p value. NaN where t is NaN or df < 1.

    Args:
        t: values of any shape.
        df: degrees of freedom, of the same shape.
    """
    p = np.full(t.shape, np.nan)
    for nu in np.unique(df[df >= 1]).tolist():
        chosen = df == nu
        p[chosen] = _tail(np.abs(t[chosen]), nu)
    return p


@functools.lru_cache(maxsize=4096)
def quantile(probability: float, df: int) -> float:
    """The t with P(|T| >= t) = probability: half the width of an interval at level 1 - probability, in errors.

    Raises:
        ValueError: the probability is not in [1e-12, 1), or df < 1.
    """
    if not LEAST_PROBABILITY <= probability < 1 or df < 1:
        raise ValueError(f"a probability in [1e-12, 1) and df >= 1 are needed, not {probability} and {df}")
    low, high = 0.0, 1.0
    while _tail(high, df) > probability:
        low, high = high, 2 * high
    t = 0.5 * (low + high)
    for _ in range(200):  # Newton's steps, halved where one would leave the bracket
        excess = float(_tail(t, df)) - probability
        low, high = (t, high) if excess > 0 else (low, t)
        step = t + excess / (2 * _density(t, df))
        previous, t = t, step if low < step < high else 0.5 * (low + high)
        if abs(t - previous) <= 1e-15 * t:
            break
    return t


def _tail(t: Any, df: int) -> Any:
    """P(|T| >= t) for t >= 0, a number or an array: 1 - A(t | df) of Abramowitz & Stegun."""
    root = np.sqrt(df + t * t)
    sine, cosine = t / root, math.sqrt(df) / root
    square = cosine * cosine
    odd = df % 2
    term = cosine if odd else 1.0
    series = 0.0 * t if df == 1 else term + 0.0 * t
    for k in range(1, (df - 1) // 2 if odd else df // 2):
        term = term * square * ((2 * k) / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
        series = series + term
    # The angle's complement, so that far out nothing is subtracted from a half turn.
    within = sine * series
    beyond = 2 / math.pi * (np.arctan2(math.sqrt(df), t) - within) if odd else 1 - within
    return np.maximum(beyond, 0.0)


def _density(t: float, df: int) -> float:
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(constant - (df + 1) / 2 * math.log1p(t * t / df))
