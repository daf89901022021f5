"""Hands trials to Ray Tune: in the plan's order, as many at once as fit, TPE's values chosen as they start.

Owns which trial starts when. A value that was chosen is on disk before its trial starts, so that the trial stays the
same trial in every attempt.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from adadim_core.spec import TrialPlan
from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.search import SearchSpec
from workers.storage.folder import Storage
from workers.storage.trial_result import TrialResult


class TrialQueue(Searcher):
    """A searcher, as Tune calls it, over a plan that is made already."""

    def __init__(
        self,
        search: SearchSpec | None,
        storage: Storage,
        plans: Sequence[TrialPlan],
        finished: Sequence[TrialResult],
        slots: Callable[[], int],
    ) -> None:
        """
        Args:
            search: How values are chosen; None for a single run.
            storage: Where chosen values are kept.
            plans: The trials to run.
            finished: Those that ended before, for TPE to learn from.
            slots: How many trials may run at once, now.
        """
        super().__init__()
        self._search = search
        self._storage = storage
        self._waiting = list(plans)
        self._slots = slots
        self._live: dict[str, int] = {}
        self._tpe = _tpe(search, finished) if search is not None and ALGORITHMS[search.algorithm].learns else None
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its parts, to restore them in another process; nobody will

    def close(self) -> None:
        """There is no time left: of the trials that wait only those start that have come to something before."""
        if not self._closed:
            self._closed = True
            trained = self._storage.checkpointed() if self._waiting else set()
            self._waiting = [plan for plan in self._waiting if plan.number in trained]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What the next trial is to be, if one may start now."""
        if not self._waiting:
            return Searcher.FINISHED  # type: ignore[return-value]
        if len(self._live) >= self._slots():
            return None
        plan = self._waiting.pop(0)
        params = plan.params
        if self._tpe is not None:
            params = self._tpe.start(plan.number, plan.params)
            if not plan.params:
                self._storage.write_json(self._storage.params(plan.number), params)
        self._live[trial_id] = plan.number
        return {"trial": plan.number, "params": params}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._live.pop(trial_id, None)
        if self._tpe is not None and self._search is not None and number is not None:
            self._tpe.end(number, None if error else (result or {}).get(self._search.metric))

    def save(self, checkpoint_path: str) -> None:
        """Tune wants a file; what must be kept is in storage."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a new attempt makes its own queue")


def _tpe(search: SearchSpec, finished: Sequence[TrialResult]) -> Any:
    from workers.sweep.tpe import Tpe  # Optuna takes half a second to import

    tpe = Tpe(search)
    for result in finished:
        tpe.start(result.number, result.params)
        tpe.end(result.number, result.metrics.get(search.metric))
    return tpe
