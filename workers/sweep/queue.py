"""Hands trials to Ray Tune: in the plan's order, as many at once as fit, TPE's values chosen as they start.

Owns which trial starts when. A value that was chosen is on disk before its trial starts, so that the trial stays the
same trial in every attempt.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from adadim_core.spec import ExperimentSpec, TrialPlan, configuration_of, plan_trials
from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.search import SearchSpec
from workers.storage.folder import Storage
from workers.storage.ranking import ranking
from workers.storage.trial_result import TrialResult
from workers.sweep.race import RaceCourse, is_race


class TrialQueue(Searcher):
    """A searcher, as Tune calls it, over a plan that is made already."""

    def __init__(
        self,
        spec: ExperimentSpec,
        storage: Storage,
        plans: Sequence[TrialPlan],
        finished: Sequence[TrialResult],
        slots: Callable[[], int],
        leave_out: Callable[[TrialPlan, str], None],
    ) -> None:
        """
        Args:
            spec: The experiment.
            storage: Where chosen values are kept.
            plans: The trials to run.
            finished: Those that ended before, for TPE and a race to go by.
            slots: How many trials may run at once, now.
            leave_out: Called with trials that will never start, and the reason.
        """
        super().__init__()
        self._ranking_metric, _ = ranking(spec)
        self._storage = storage
        self._waiting = list(plans)
        self._slots = slots
        self._leave_out = leave_out
        self._live: dict[str, TrialPlan] = {}
        self._race = RaceCourse(spec, plans, finished) if is_race(spec) else None
        self._chooser: _Chooser | None = None
        if spec.search is not None and ALGORITHMS[spec.search.algorithm].learns:
            self._chooser = _Chooser(spec, spec.search, plans, finished)
            # A configuration is judged once all its replicates have ended: they come one after the other.
            self._waiting.sort(key=lambda plan: (plan.configuration, plan.number))
        self._closed = False
        self.losing: set[int] = set()
        """Trials whose process was lost in this step of Tune's. One that it gives up in the same step had not begun."""
        self._lost: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its parts, to restore them in another process; nobody will

    @property
    def left(self) -> set[int]:
        """Trials that Tune lost before they began, and those that wait for them. They may be run again."""
        return self._lost | {plan.number for plan in self._waiting}

    def close(self) -> None:
        """The time is used up: of the waiting trials only those with a checkpoint start, to write their results."""
        if not self._closed:
            self._closed = True
            trained = self._storage.checkpointed() if self._waiting else set()
            self._waiting = [plan for plan in self._waiting if plan.number in trained]
            self._race = None  # trials with a checkpoint write their results, whatever they wait for

    def drop(self, configuration: int, reason: str) -> None:
        """Of this configuration no trial is to begin; those that have begun before go on to where they are ended."""
        replicates = {plan.number for plan in self._waiting if plan.configuration == configuration}
        begun = self._storage.checkpointed() if replicates else set()
        self._sort_out(lambda plan: reason if plan.number in replicates - begun else None)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What the next trial is to be, if one may start now."""
        if not self._waiting:
            return Searcher.FINISHED  # type: ignore[return-value]
        if len(self._live) >= self._slots():
            return None
        race = self._race
        plan = next((plan for plan in self._waiting if race is None or race.may_start(plan.number)), None)
        if plan is None:  # a race waits until all have come as far, which one that was lost will do in another queue
            return None if self._live else Searcher.FINISHED  # type: ignore[return-value]
        self._waiting.remove(plan)
        params = plan.params
        if self._chooser is not None:
            params = self._chooser.start(plan)
            if params != plan.params:
                self._storage.write_json(self._storage.params(plan.number), params)
        self._live[trial_id] = plan
        return {"trial": plan.number, "params": params}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        plan = self._live.pop(trial_id, None)
        if plan is None:
            return
        if error and plan.number in self.losing:
            self._lost.add(plan.number)
            return
        value = None if error else (result or {}).get(self._ranking_metric)
        if self._chooser is not None:
            self._chooser.end(plan, value)
        if self._race is not None:
            race = self._race
            race.end(plan.number, value)
            self._sort_out(lambda plan: race.verdict(plan.number))

    def _sort_out(self, verdict: Callable[[TrialPlan], str | None]) -> None:
        """Leave out those that wait for nothing."""
        waiting, self._waiting = self._waiting, []
        for plan in waiting:
            reason = verdict(plan)
            if reason is None:
                self._waiting.append(plan)
                continue
            if self._chooser is not None:
                plan = replace(plan, params=self._chooser.known(plan))  # noqa: PLW2901 - what it would have been
                self._chooser.end(plan, None)
            self._leave_out(plan, reason)

    def save(self, checkpoint_path: str) -> None:
        """Tune wants a file; what must be kept is in storage."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a new attempt makes its own queue")


class _Chooser:
    """Has TPE choose the values of configurations, and reports to it the mean over the replicates of each."""

    def __init__(
        self, spec: ExperimentSpec, search: SearchSpec, plans: Sequence[TrialPlan], finished: Sequence[TrialResult]
    ) -> None:
        from workers.sweep.tpe import Tpe  # Optuna takes half a second to import

        self._tpe = Tpe(search)
        self._begun: dict[int, dict[str, Any]] = {}
        """The values of configurations that TPE knows of."""
        self._chosen: dict[int, dict[str, Any]] = {}
        """The values of configurations that a replicate has on record."""
        self._open: dict[int, int] = {}
        """Of every configuration, how many replicates are to end yet."""
        self._shown: dict[int, list[float]] = {}
        for plan in plans:
            self._open[plan.configuration] = self._open.get(plan.configuration, 0) + 1
            if values := configuration_of(plan.params):
                self._chosen[plan.configuration] = values
        configurations = {plan.number: plan.configuration for plan in plan_trials(spec)}
        for result in finished:
            configuration = configurations[result.number]
            if values := configuration_of(result.params):
                self._chosen[configuration] = values
            self._show(configuration, result.metrics.get(search.metric))
        for configuration in self._shown:
            self._begin(configuration)
            self._judge(configuration)

    def start(self, plan: TrialPlan) -> dict[str, Any]:
        """A trial starts. Returns its values: those on record for its configuration, or chosen ones."""
        return {**self._begin(plan.configuration), **plan.params}

    def known(self, plan: TrialPlan) -> dict[str, Any]:
        """A trial's values as far as they are on record for its configuration."""
        return {**self._chosen.get(plan.configuration, {}), **plan.params}

    def end(self, plan: TrialPlan, value: float | None) -> None:
        """A trial ended with this value of the ranking metric; None: it showed nothing, or never started."""
        self._open[plan.configuration] -= 1
        self._show(plan.configuration, value)
        self._judge(plan.configuration)

    def _begin(self, configuration: int) -> dict[str, Any]:
        if configuration not in self._begun:
            values = self._chosen.get(configuration, {})
            self._begun[configuration] = self._chosen[configuration] = self._tpe.start(configuration, values)
        return self._begun[configuration]

    def _show(self, configuration: int, value: float | None) -> None:
        shown = self._shown.setdefault(configuration, [])
        if value is not None and math.isfinite(value):
            shown.append(value)

    def _judge(self, configuration: int) -> None:
        """Report a configuration to TPE once all its replicates have ended, stopped ones with their last value."""
        if not self._open.get(configuration):
            shown = self._shown[configuration]
            self._tpe.end(configuration, math.fsum(shown) / len(shown) if shown else None)
