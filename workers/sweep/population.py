"""Population based training: poor trials copy the weights of a good one and continue with perturbed values.

Owns which trial copies which, and when. The trials train side by side, taking turns where the cluster does not hold all
of them. Weights move through the trials' own checkpoints, so that a new attempt continues with the
latest; a trial's values lie in params.json, written before the trial takes them over.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from adadim_core.spec import ExperimentSpec, trial_label
from adadim_core.spec.scheduler import PopulationBasedTraining
from adadim_core.spec.search import SearchSpec
from adadim_core.spec.space import Choice, Integer, Uniform
from workers.storage.folder import Storage
from workers.storage.trial_result import TrialResult
from workers.sweep.budget import Budget
from workers.sweep.stopping import StopRules, actor_of, number_of

_FACTORS = (0.8, 1.2)

OnChange = Callable[[int, dict[str, Any]], None]


class Population(StopRules):
    """Tune's scheduler of a run with `search.scheduler: {name: pbt}`."""

    def __init__(
        self,
        spec: ExperimentSpec,
        search: SearchSpec,
        settings: PopulationBasedTraining,
        storage: Storage,
        budget: Budget,
        finished: dict[int, TrialResult],
        check: Callable[[], None],
        on_change: OnChange,
    ) -> None:
        """
        Args:
            spec: The experiment.
            search: Its search section.
            settings: Its scheduler section.
            storage: Where values are kept.
            budget: The time there is.
            finished: Trials that ended before, by number. They take no part.
            check: As for StopRules.
            on_change: Called with a trial's number and its new values.
        """
        super().__init__(spec, storage, budget, finished, check)
        self._search = search
        self._settings = settings
        self._on_change = on_change
        self._params: dict[int, dict[str, Any]] = {}
        self._scores: dict[int, float] = {}
        """Of every trial that is under way, at its last comparison. More is better."""
        self._compared: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._kept: dict[int, ray.ObjectRef[None]] = {}
        """Of every trial, its last storing of weights that others may want."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self._params.setdefault(number_of(trial), dict(trial.config["params"]))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        decision = str(TrialScheduler.CONTINUE)
        number, epoch = number_of(trial), int(result["epoch"])
        if self.ends(trial, result):
            self._scores.pop(number, None)
            return decision
        # A trial that resumes from a checkpoint was compared up to the last whole interval.
        every = self._settings.every_epochs
        before = self._compared.setdefault(number, (epoch - 1) // every * every)
        self._epochs[number] = epoch
        value = result.get(self._metric)
        if epoch - before < every or value is None:
            return decision
        self._compared[number] = epoch
        self._scores[number] = self._score(value)
        actor = actor_of(trial)
        donor = self._donor_for(number)
        if donor is not None:
            params = self._vary(self._params[donor], random.Random(f"{self._search.seed}/{number}/{epoch}"))
            self._params[number] = params
            self._storage.write_json(self._storage.params(number), params)
            # In a list, which Ray passes on as it is: the actor waits for it.
            # It stores them at once: who learns from it in turn waits for that.
            waits_for = [self._kept[donor]] if donor in self._kept else []
            self._kept[number] = actor.take_over.remote(donor, params, waits_for)
            # It is as good and as far as that one now. But it is compared again only where it has come further than it
            # ever was: else two that throw each other back would never end.
            self._scores[number] = self._scores[donor]
            self._epochs[number] = self._epochs[donor]
            self._on_change(number, params)
            learnt = f"takes over the weights of trial {donor}, epoch {self._epochs[donor]}"
            print(f"trial {number}  epoch {epoch}  {learnt}: {trial_label(self._spec, params)}", flush=True)
        else:
            self._kept[number] = actor.keep.remote()  # others may want these weights
        others = [other.status for other in tune_controller.get_trials() if other is not trial]
        taking_turns = Trial.PENDING in others or Trial.PAUSED in others
        return str(TrialScheduler.PAUSE if taking_turns else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)
        self._scores.pop(number_of(trial), None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_error(tune_controller, trial)
        self._scores.pop(number_of(trial), None)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial with the fewest epochs trained."""
        waiting = [trial for trial in tune_controller.get_trials() if trial.status in (Trial.PENDING, Trial.PAUSED)]
        return min(waiting, key=lambda trial: self._epochs.get(number_of(trial), 0), default=None)

    def _score(self, value: float) -> float:
        if not math.isfinite(value):
            return -math.inf
        return value if self._mode == "max" else -value

    def _donor_for(self, number: int) -> int | None:
        """One of the good trials, if this one is among the poor ones."""
        ranked = sorted(self._scores, key=lambda trial: (self._scores[trial], trial))
        count = min(math.ceil(len(ranked) * self._settings.quantile), len(ranked) // 2)
        if number not in ranked[:count]:
            return None
        return random.Random(f"{self._search.seed}/{number}/{self._compared[number]}/donor").choice(ranked[-count:])

    def _vary(self, params: dict[str, Any], rng: random.Random) -> dict[str, Any]:
        """The donor's values, each changed a little or drawn anew, within the space."""
        varied: dict[str, Any] = {}
        for path, distribution in sorted(self._search.space.items()):
            if rng.random() < self._settings.resample:
                drawn = distribution.at(rng.random())
                varied[path] = distribution.choice[int(drawn)] if isinstance(distribution, Choice) else drawn
            elif isinstance(distribution, Choice):
                at = distribution.choice.index(params[path]) + rng.choice((-1, 1))
                varied[path] = distribution.choice[min(max(at, 0), len(distribution.choice) - 1)]
            elif isinstance(distribution, Integer):
                varied[path] = round(_moved(params[path], distribution.integer, rng))
            else:
                bounds = distribution.uniform if isinstance(distribution, Uniform) else distribution.log_uniform
                varied[path] = _moved(params[path], bounds, rng)
        return varied


def _moved(value: float, bounds: Sequence[float], rng: random.Random) -> float:
    low, high = bounds
    return min(max(value * rng.choice(_FACTORS), low), high)
