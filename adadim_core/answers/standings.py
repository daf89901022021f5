"""Who leads among the ranked configurations, how the others stand to it, and why nothing can be said.

Owns the choice of the leader and the verdict on each pair with it. Does not own the tests (estimates) or which
configurations are ranked (answer).
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from adadim_core.answers.document import Difference, Standing, Verdict
from adadim_core.answers.estimates import ALPHA, Pairs, adjusted_means, seeds_to_settle
from adadim_core.answers.student import Floats

_TRAIN_ALIKE = "let all train with the same seeds"


@dataclass(frozen=True)
class Standings:
    """How the ranked stand; positions in the list of the ranked."""

    verdict: Verdict
    leader: int
    """The best mean among those that no other beats beyond doubt."""
    order: list[int]
    """By means adjusted for missing seeds, the best first."""
    pairs: Pairs
    worse: list[bool]
    """Than the leader."""

    @classmethod
    def of(cls, values: Floats, pairs: Pairs, mode: Literal["max", "min"]) -> Self | None:
        """None if there is nothing to compare, no pair has a test, or each is worse than another.

        Args:
            values: (K, S) of the metric that ranks; NaN where there is no replicate.
            pairs: all pairs of them.
            mode: whether more of the metric is better.
        """
        count, sign = len(values), 1.0 if mode == "max" else -1.0
        if count < 2 or pairs.tested == 0:
            return None
        beaten = _beaten(pairs, sign)
        scores = sign * adjusted_means(values)
        order = sorted(range(count), key=lambda k: (-scores[k], k))
        leader = next((k for k in order if not beaten[k].any()), None)
        if leader is None:
            return None
        worse: list[bool] = beaten[:, leader].tolist()
        verdict: Verdict = "best" if sum(worse) == count - 1 else "leads" if any(worse) else "none"
        return cls(verdict, leader, order, pairs, worse)

    def of_one(self, k: int) -> Standing:
        """The standing of one of the ranked."""
        if k == self.leader:
            return "best" if self.verdict == "best" else "leads"
        if self.untested(k) is not None:
            return "not compared"
        return "worse" if self.worse[k] else "not distinguishable"

    def untested(self, k: int) -> str | None:
        """Why its pair with the leader has no test; None: it has one, or it is the leader."""
        if k == self.leader or self.pairs.has_test(k, self.leader):
            return None
        return (
            "no two common seeds"
            if self.pairs.n[self.pairs.of_two(k, self.leader)] < 2
            else "differences without spread"
        )

    def difference(self, pairs: Pairs, k: int) -> Difference | None:
        """Of one of the ranked to the leader, in any metric; None without a common seed.

        Args:
            pairs: all pairs of the ranked, in that metric.
            k: which of them.
        """
        pair = pairs.of_two(k, self.leader)
        n, mean = int(pairs.n[pair]), pairs.paired(k, self.leader)
        if n == 0:
            return None
        sd = float(pairs.sd[pair]) if n > 1 else None
        if not pairs.has_test(k, self.leader):
            return Difference(seeds=n, mean=mean, sd=sd)
        alone, adjusted = pairs.half_width(pair, ALPHA), pairs.half_width(pair, pairs.level)
        return Difference(
            seeds=n,
            mean=mean,
            sd=sd,
            low=mean - alone,
            high=mean + alone,
            low_adjusted=mean - adjusted,
            high_adjusted=mean + adjusted,
            p=float(pairs.p[pair]),
            p_adjusted=float(pairs.adjusted[pair]),
        )

    def more_seeds(self, k: int) -> int | None:
        """About how many more would tell it from the leader; None: it is told, or none would."""
        pairs, pair = self.pairs, self.pairs.of_two(k, self.leader)
        if self.worse[k] or not pairs.has_test(k, self.leader):
            return None
        needed = seeds_to_settle(float(pairs.mean[pair]), float(pairs.sd[pair]), pairs.level)
        return None if needed is None else max(1, needed - int(pairs.n[pair]))


def _beaten(pairs: Pairs, sign: float) -> NDArray[np.bool_]:
    """(K, K): whether the row is worse than the column beyond doubt."""
    first, second = np.triu_indices(pairs.count, 1)
    beaten = np.zeros((pairs.count, pairs.count), bool)
    beaten[first, second] = pairs.different & (sign * pairs.mean < 0)
    beaten[second, first] = pairs.different & (sign * pairs.mean > 0)
    return beaten


def why_none(pairs: Pairs) -> str | None:
    """Why several ranked configurations have no standings; None: there are not several."""
    if pairs.count < 2:
        return None
    if pairs.tested:
        return f"each configuration is worse than another over the seeds that both have; {_TRAIN_ALIKE}"
    if np.any(pairs.n >= 2):
        return (
            "differences of configurations with two common seeds are the same for every seed, which no test allows for"
        )
    return f"no two configurations have two common seeds, so none are compared; {_TRAIN_ALIKE}"
