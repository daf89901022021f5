"""Which trials end early, and why: ASHA or median stopping (judges.py), plateau, and the time budget.

Owns the verdict after every epoch and what an earlier attempt must have left known for it. ASHA and median stopping
end configurations: all replicates of one, also those that have yet to start. How a trial ends early is
workers/trial's: its actor is called, and writes encoder and result as at any other end.
"""

import math
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from adadim_core.spec import ExperimentSpec, plan_trials
from adadim_core.spec.scheduler import PlateauSpec
from workers.storage.folder import Storage
from workers.storage.ranking import ranking
from workers.storage.trial_result import TrialResult
from workers.sweep.budget import Budget
from workers.sweep.history import history
from workers.sweep.judges import make_judge


class StopRules(FIFOScheduler):
    """Tune's scheduler of a run: starts trials in order, and stops those that a rule wants stopped."""

    def __init__(
        self,
        spec: ExperimentSpec,
        storage: Storage,
        budget: Budget,
        finished: dict[int, TrialResult],
        check: Callable[[], None],
        drop: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        """
        Args:
            spec: The experiment.
            storage: Where earlier attempts left what their trials showed.
            budget: The time there is.
            finished: Trials that ended before, by number.
            check: Called between two of them: reading what hundreds showed takes a while. May raise.
            drop: Called with a configuration whose other replicates must not start, and the reason.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: str
        self._metric, self._mode = ranking(spec)
        self._spec = spec
        self._storage = storage
        self._budget = budget
        self._plateaus: dict[int, _Plateau] = {}
        self._ending: dict[int, str] = {}
        """Trials whose actors were told to end, with the reason."""
        self._known: set[int] = set()
        self._drop = drop
        self._configurations = {plan.number: plan.configuration for plan in plan_trials(spec)}
        self._judge = make_judge(spec, self._mode, self._configurations)
        for number, result in finished.items() if self._judge is not None else ():
            check()
            self._remember(number)
            if result.state == "stopped" and (result.reason or "").startswith(f"{self._name()}: "):
                self._end_configuration(number, result.reason or "")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its parts, to restore them in another process; nobody will

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        self._remember(number_of(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        self.ends(trial, result)
        return str(TrialScheduler.CONTINUE)

    def ends(self, trial: Trial, result: dict[str, Any]) -> bool:
        """Whether a trial must end after this epoch; if so, its actor is told.

        Tune is not: it would give the trial's process ten seconds at the end of a run, and a trial that writes its
        encoder over a slow network takes longer. So the trial ends by itself, in the step that Tune asks for next.
        """
        number, reason = number_of(trial), None
        if not result.get("interrupted"):
            # The trial may have resumed in a new process since it was told to end; it is not judged again.
            reason = self._ending.get(number) or self._verdict(number, result)
        if reason is not None:
            self._ending[number] = reason
            actor_of(trial).end_early.remote(f"{reason}, at epoch {int(result['epoch'])}")
        return reason is not None

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        value = result.get(self._metric, math.nan)
        if self._judge is not None and math.isfinite(value):
            self._judge.record(number_of(trial), int(result["epoch"]), value)

    def _verdict(self, number: int, result: dict[str, Any]) -> str | None:
        """Why the trial should stop, or None."""
        epoch, value = int(result["epoch"]), result.get(self._metric)
        if self._budget.used_up:
            return self._budget.reason
        if value is None:
            return None
        if self._judge is not None:
            if not math.isfinite(value):
                return f"{self._metric} is {value}"
            behind = self._judge.observe(number, epoch, value)
            if behind is not None:
                over = f" over {behind.replicates} seeds" if behind.replicates > 1 else ""
                reason = f"{self._name()}: {self._metric} {behind.value:.4g}{over} is too far behind"
                self._end_configuration(number, reason)
                return reason
        if self._spec.stop.plateau is not None:
            plateau = self._plateaus[number]
            plateau.observe(epoch, value)
            if plateau.reached(epoch):
                return f"{self._metric} no better for {self._spec.stop.plateau.patience} epochs"
        return None

    def _end_configuration(self, number: int, reason: str) -> None:
        """The other replicates of this trial's configuration end with it: at their next epoch, or before they start."""
        configuration, reason = self._configurations[number], f"{reason} (trial {number})"
        for other, of in self._configurations.items():
            if of == configuration and other != number:
                self._ending.setdefault(other, reason)
        self._drop(configuration, reason)

    def _remember(self, number: int) -> None:
        """Begin with a trial: know what it did in earlier attempts. Verdicts on that are not repeated."""
        if number in self._known:  # it resumes in another process
            return
        self._known.add(number)
        if self._spec.stop.plateau is not None:
            self._plateaus[number] = _Plateau(self._spec.stop.plateau, self._mode)
        if self._judge is None and self._spec.stop.plateau is None:
            return
        for epoch, value in history(self._storage, number, self._metric):
            if self._judge is not None and math.isfinite(value):
                self._judge.record(number, epoch, value)
            if self._spec.stop.plateau is not None:
                self._plateaus[number].observe(epoch, value)

    def _name(self) -> str:
        return self._spec.search.scheduler.name if self._spec.search is not None else ""


def number_of(trial: Trial) -> int:
    """The number of a Tune trial within its experiment."""
    return int(trial.config["trial"])


def actor_of(trial: Trial) -> Any:
    """The actor that trains a trial. It takes calls in their order: one made now comes before the next epoch."""
    return trial.temporary_state.ray_actor


class _Plateau:
    """Follows one trial's metric: since when has it not been better?"""

    def __init__(self, spec: PlateauSpec, mode: str) -> None:
        self._spec = spec
        self._sign = 1.0 if mode == "max" else -1.0
        self._best = -math.inf
        self._best_epoch = 0

    def observe(self, epoch: int, value: float) -> None:
        if self._sign * value > self._best + self._spec.min_delta:
            self._best, self._best_epoch = self._sign * value, epoch

    def reached(self, epoch: int) -> bool:
        return epoch - self._best_epoch >= self._spec.patience
