"""A race: which configurations get another seed, which are dropped, and when nothing is left to find out.

Owns the rule, from values alone, so that every attempt that reads the same results comes to the same standing. Does
not own which trials run when (workers/sweep) or how the rule is worded.

After `first` seeds of every configuration, and after each further one, all pairs of configurations are compared as in
the answer: paired t tests over common seeds, Holm's adjustment over all pairs. What is behind the leader with an
adjusted p of at most the level of this look is dropped. The look's level is a part of 4 %: alpha spending (Lan,
DeMets 1983) with 0.04 j / 2^(j + 1) for the j-th look, 0.04 over all looks however many there will be. By the union
bound the chance that a race ever drops a configuration for one that is no better is at most 4 %, for normal
differences of any variances, however often it looked and whatever it dropped before. The last 1 % is left for the
answer, which tests the values of the race once more. The anchors are F-race (Birattari et al. 2002) and irace
(Lopez-Ibanez et al. 2016), which test at every look with the whole level.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adadim_core.answers.estimates import ALPHA, Pairs, adjusted_means, compare
from adadim_core.answers.student import LEAST_PROBABILITY, Floats, quantile

SPENT = 0.8 * ALPHA
"""The part of the family-wise error that the looks may use up together; the answer has the rest. Most of it: a race
is there to decide on the way."""


@dataclass(frozen=True)
class Rule:
    """The parameters of a race."""

    first: int
    """Seeds of every configuration before the first look."""
    most: int
    """Seeds of a configuration at most."""
    mode: Literal["max", "min"]
    indifference: float = 0.0
    """The race ends once all that are left are within it of each other; 0: it does not."""
    step: float = 0.0
    """The metric's resolution, as for `compare`."""


@dataclass(frozen=True)
class Drop:
    """Why a configuration is out of the race."""

    seeds: int
    """After how many."""
    leader: int | None
    """The configuration it is worse than; None: it has no value."""
    difference: float
    """Mean paired difference to the leader, in the metric."""
    p: float
    """After Holm's adjustment over all pairs."""
    level: float
    """The largest p that drops at this look."""


@dataclass(frozen=True)
class Standing:
    """How a race stands."""

    seeds: int
    """So many seeds, the first ones, may those train with that are still in the race."""
    dropped: dict[int, Drop]
    """Configurations that are out, in the order in which they dropped out."""
    over: Literal["one left", "indifferent", "most seeds"] | None
    """Why no further seed is given; None: the race goes on."""


def level(look: int) -> float:
    """The largest adjusted p that drops a configuration at the look-th look, from 1: 0.04 look / 2^(look + 1).

    Never below the smallest p value that can be told from 0, which adds less than 1e-10 to the sum over a race.
    """
    return max(SPENT * look / 2.0 ** (look + 1), LEAST_PROBABILITY)


def standing(values: Floats, ended: NDArray[np.bool_], rule: Rule) -> Standing:
    """The standing of a race, from the trials that have ended. It does not depend on the order in which they ended.

    Args:
        values: (K, S) of K configurations and S = `most` seeds; NaN where there is none (yet).
        ended: (K, S), whether the replicate will not train any more, be it without a value.
        rule: The parameters of the race.
    """
    dropped: dict[int, Drop] = {}
    used = np.full(values.shape, np.nan)
    seeds = rule.first
    while True:
        left = [k for k in range(len(values)) if k not in dropped]
        if not ended[left, :seeds].all():
            return Standing(seeds, dropped, None)
        used[left, :seeds] = values[left, :seeds]
        if seeds >= rule.most:
            return Standing(seeds, dropped, "most seeds")
        dropped |= _drops(used, left, seeds, rule)
        left = [k for k in left if k not in dropped]
        if len(left) <= 1:
            return Standing(seeds, dropped, "one left")
        if rule.indifference > 0 and _within(used[left], level(seeds - rule.first + 1), rule):
            return Standing(seeds, dropped, "indifferent")
        seeds += 1


def _drops(used: Floats, left: list[int], seeds: int, rule: Rule) -> dict[int, Drop]:
    """Those of `left` that this look drops."""
    allowed = level(seeds - rule.first + 1)
    measured = [k for k in left if np.isfinite(used[k]).any()]
    drops = {k: Drop(seeds, None, np.nan, np.nan, allowed) for k in left if k not in measured}
    if not measured:
        return {}  # nothing tells them apart
    pairs = compare(used, step=rule.step)
    sign = 1.0 if rule.mode == "max" else -1.0
    leader = measured[int(np.argmax(sign * adjusted_means(used[measured])))]
    for k in measured:
        if k == leader:
            continue
        pair = pairs.index(min(k, leader), max(k, leader))
        behind = float(pairs.mean[pair]) * (1.0 if k < leader else -1.0)
        if sign * behind < 0 and pairs.adjusted[pair] <= allowed:
            drops[k] = Drop(seeds, leader, behind, float(pairs.adjusted[pair]), allowed)
    return drops


def _within(used: Floats, allowed: float, rule: Rule) -> bool:
    """Whether all pairs differ by less than the indifference: two one-sided tests each (Schuirmann 1987).

    Each at the look's level: that all pairs are within it is claimed only where every single test says so, which needs
    no adjustment for their number (Berger 1982).
    """
    pairs: Pairs = compare(used, step=rule.step)
    return all(
        n >= 2 and abs(mean) + quantile(2 * allowed, int(n) - 1) * sd / np.sqrt(n) <= rule.indifference
        for n, mean, sd in zip(pairs.n, pairs.mean, pairs.sd, strict=True)
    )
