"""Which trial is best, and which checkpoints are therefore kept."""

import math
from collections.abc import Iterable

from adadim_core.spec import ExperimentSpec
from workers.storage.folder import Storage
from workers.storage.trial_result import ENDED_WELL, TrialResult


def ranking(spec: ExperimentSpec) -> tuple[str, str]:
    """The metric whose last value ranks trials, and whether more is better."""
    return (spec.search.metric, spec.search.mode) if spec.search else ("knn_top1", "max")


def decisive_metric(spec: ExperimentSpec) -> str | None:
    """The metric that every trial must measure: that of a search or of a plateau; None: there is neither."""
    return ranking(spec)[0] if spec.search or spec.stop.plateau else None


def best(spec: ExperimentSpec, results: Iterable[TrialResult]) -> TrialResult | None:
    """The finished trial that ranks first, stopped ones included; None if none has a number for the metric."""
    metric, mode = ranking(spec)
    ranked = [r for r in results if r.state in ENDED_WELL and math.isfinite(r.metrics.get(metric, math.nan))]
    sign = 1.0 if mode == "max" else -1.0
    return max(ranked, key=lambda result: (sign * result.metrics[metric], -result.number), default=None)


class BestCheckpoint:
    """Of finished trials, keeps the checkpoint of the best one and removes the others' as they end."""

    def __init__(self, spec: ExperimentSpec, storage: Storage, finished: Iterable[TrialResult]) -> None:
        self._spec = spec
        self._storage = storage
        self._kept: list[TrialResult] = []
        there = storage.checkpointed()
        for result in finished:
            if result.number in there:
                self.offer(result)

    def offer(self, result: TrialResult) -> None:
        """A trial changed."""
        if result.state not in ENDED_WELL:
            return
        kept = [*self._kept, result]
        winner = best(self._spec, kept)
        self._kept = [winner] if winner is not None else []
        for other in kept:
            if other is not winner:
                self._storage.remove_checkpoint(other.number)
