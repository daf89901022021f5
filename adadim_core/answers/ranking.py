"""How well a measure that needs no labels would have ranked the configurations: Kendall's tau with its interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from adadim_core.answers.estimates import ALPHA
from adadim_core.answers.student import Floats

_FEWEST_FOR_INTERVAL = 5


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b of two rankings."""

    tau: float | None
    """In [-1, 1]: 1 the same order, -1 the reverse; None where one of them ties all."""
    low: float | None
    high: float | None
    """95 % interval; None under five pairs, too few for one."""


def kendall(x: Floats, y: Floats) -> Tau:
    """tau-b = (C - D) / sqrt((P - T_x) (P - T_y)) (Kendall 1945), with Fieller's interval (1957).

    C and D are concordant and discordant pairs, P all pairs, T those tied. The interval is tanh(atanh tau ± z
    sqrt(0.437 / (n - 4))): over configurations; that their means are uncertain too is not in it. For a tau of ±1 its
    inner end is that of half a discordant pair: agreement of a few does not prove that all agree.

    Args:
        x: (K,) finite.
        y: (K,) finite.
    """
    n = len(x)
    first, second = np.triu_indices(n, 1)
    sign_x, sign_y = np.sign(x[first] - x[second]), np.sign(y[first] - y[second])
    scale = math.sqrt(float(np.abs(sign_x).sum()) * float(np.abs(sign_y).sum()))
    if scale == 0:
        return Tau(None, None, None)
    tau = min(max(float((sign_x * sign_y).sum()) / scale, -1.0), 1.0)
    if n < _FEWEST_FOR_INTERVAL:
        return Tau(tau, None, None)
    half = NormalDist().inv_cdf(1 - ALPHA / 2) * math.sqrt(0.437 / (n - 4))
    most = 1 - 1 / len(first)
    center = math.atanh(min(max(tau, -most), most))
    return Tau(tau, -1.0 if tau == -1 else math.tanh(center - half), 1.0 if tau == 1 else math.tanh(center + half))
