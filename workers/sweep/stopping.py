"""Which trials end early, and why: ASHA or median stopping (Ray Tune's), plateau, and the time budget.

Owns the verdict after every epoch and what an earlier attempt must have left known for it. How a trial ends early
is the room trial's: its actor is told, and writes encoder and result as for any other end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.scheduler import Asha, MedianStopping, NoScheduler, PlateauSpec, PopulationBasedTraining, Race
from workers.storage.folder import Storage
from workers.storage.ranking import ranking
from workers.storage.trial_result import TrialResult
from workers.sweep.budget import Budget
from workers.sweep.history import history


class StopRules(FIFOScheduler):
    """Tune's scheduler of a run: starts trials in order, and stops those that a rule wants stopped."""

    def __init__(
        self,
        spec: ExperimentSpec,
        storage: Storage,
        budget: Budget,
        finished: dict[int, TrialResult],
        check: Callable[[], None],
    ) -> None:
        """
        Args:
            spec: The experiment.
            storage: Where earlier attempts left what their trials showed.
            budget: The time there is.
            finished: Trials that ended before, by number.
            check: Called between two of them: reading what hundreds showed takes a while. May raise.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: str
        self._metric, self._mode = ranking(spec)
        self._spec = spec
        self._storage = storage
        self._budget = budget
        self._plateaus: dict[int, _Plateau] = {}
        self._ending: dict[int, str] = {}
        """Trials that were told to end, and why."""
        self._known: set[str] = set()
        self._scheduler = _scheduler(spec, self._metric, self._mode)
        for number in finished if self._scheduler is not None else ():
            check()
            self._remember(_Former(f"former-{number}"), number)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its parts, to restore them in another process; nobody will

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._remember(trial, number_of(trial), tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self.ends(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE)

    def ends(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> bool:
        """Whether a trial is not to go on after this epoch; it is told then.

        Tune is not: it would give the trial's process ten seconds at the end of a run, and a trial that writes its
        encoder over a slow network takes longer. So the trial ends by itself, in the step that Tune asks for next.
        """
        number, reason = number_of(trial), None
        if not result.get("interrupted"):
            # Told once, it may have gone on in a new process; Tune's schedulers are not to be asked again then.
            reason = self._ending.get(number) or self._verdict(tune_controller, trial, result)
        if reason is not None:
            self._ending[number] = reason
            actor_of(trial).end_early.remote(f"{reason}, at epoch {int(result['epoch'])}")
        return reason is not None

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # ASHA would hold an infinite value against every trial to come.
        if self._scheduler is not None and math.isfinite(result.get(self._metric, math.nan)):
            self._scheduler.on_trial_complete(tune_controller, trial, result)

    def _verdict(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str | None:
        """Why the trial should stop, or None."""
        number, epoch, value = number_of(trial), int(result["epoch"]), result.get(self._metric)
        if self._budget.used_up:
            return self._budget.reason
        if value is None:
            return None
        if self._scheduler is not None:
            if not math.isfinite(value):
                return f"{self._metric} is {value}"
            if self._scheduler.on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP:
                return f"{self._name()}: {self._metric} {value:.4g} is too far behind"
        if self._spec.stop.plateau is not None:
            plateau = self._plateaus[number]
            plateau.observe(epoch, value)
            if plateau.reached(epoch):
                return f"{self._metric} no better for {self._spec.stop.plateau.patience} epochs"
        return None

    def _remember(self, trial: Any, number: int, tune_controller: Any = None) -> None:
        """Begin with a trial: show the scheduler what it did in earlier attempts. Verdicts on that are not repeated."""
        if trial.trial_id in self._known:  # it goes on in another process
            return
        self._known.add(trial.trial_id)
        if self._scheduler is not None:
            self._scheduler.on_trial_add(tune_controller, trial)
        if self._spec.stop.plateau is not None:
            self._plateaus[number] = _Plateau(self._spec.stop.plateau, self._mode)
        if self._scheduler is None and self._spec.stop.plateau is None:
            return
        for epoch, value in history(self._storage, number, self._metric):
            if self._scheduler is not None and math.isfinite(value):
                record = self._scheduler.on_trial_result
                if isinstance(self._scheduler, MedianStoppingRule):
                    record = (
                        self._scheduler.on_trial_complete
                    )  # it only records; the other takes no result after a stop
                record(tune_controller, trial, {"epoch": epoch, self._metric: value})
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


@dataclass(frozen=True)
class _Former:
    """Stands for a trial of an earlier attempt where Tune's schedulers want one of its own."""

    trial_id: str


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


def _scheduler(spec: ExperimentSpec, metric: str, mode: str) -> FIFOScheduler | None:
    """Tune's scheduler for what the spec names; None where no trial is stopped for being behind others."""
    match spec.search.scheduler if spec.search is not None else NoScheduler():
        case Asha(grace_epochs=grace, reduction=reduction):
            return AsyncHyperBandScheduler(
                time_attr="epoch",
                metric=metric,
                mode=mode,
                max_t=max(spec.epochs, grace),
                grace_period=grace,
                reduction_factor=reduction,
                stop_last_trials=False,
            )
        case MedianStopping(grace_epochs=grace, min_trials=least):
            return MedianStoppingRule(
                time_attr="epoch", metric=metric, mode=mode, grace_period=grace, min_samples_required=least
            )
        case NoScheduler() | PopulationBasedTraining() | Race():  # which population.py decides
            return None
        case _ as forgotten:
            assert_never(forgotten)
