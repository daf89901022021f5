"""Runs trials with Ray Tune, in processes that are reused.

Owns the Tuner and what its events mean. Which trial starts when is queue.py's, which ends early stopping.py's.
Tune's own files under tune/ are scratch; trials resume from their own checkpoints (trial/run.py), which
hold however Tune, the driver or the cluster ended.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray Tune when it is imported or first used.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # __main__ handles both signals the same way
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")  # Tune's state is not used
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a metric may be measured every few epochs only
# How many start at once is the queue's decision; Tune's own would start them one after the other.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")

from ray import cloudpickle, tune
from ray.tune.experiment import Trial

from adadim_core.spec import ExperimentSpec, TrialPlan
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.report import TrialState
from adadim_core.spec.scheduler import PopulationBasedTraining
from adadim_core.storage.object_store import StorageAway
from workers.context import RunContext
from workers.storage.trial_result import TrialResult, chosen, read_result
from workers.sweep.budget import Budget
from workers.sweep.cluster import RoomWatch
from workers.sweep.population import Population
from workers.sweep.queue import TrialQueue
from workers.sweep.stopping import StopRules, actor_of, number_of
from workers.trial.actor import TrialActor
from workers.trial.distributed import DistributedTrialActor
from workers.trial.failures import LOST_PROCESS_RETRIES, Failures

# It misses the result files of the loggers turned off above, once a trial.
logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)

OnUpdate = Callable[[TrialResult], None]


@dataclass(frozen=True)
class SweepCallbacks:
    """Called on events of the sweep, in the thread of `run_trials`."""

    update: OnUpdate
    """A trial started, completed an epoch, or ended."""
    change: Callable[[int, dict[str, Any]], None]
    """A trial continues with other values."""
    wait_for: Callable[[str], None]
    """The run waits for something; empty: for nothing any more."""
    check: Callable[[list[Trial]], None]
    """Called with all trials several times a second. What it raises ends the run."""


def run_trials(
    context: RunContext, plans: list[TrialPlan], finished: list[TrialResult], budget: Budget, callbacks: SweepCallbacks
) -> list[TrialPlan]:
    """Run trials to their ends: until each has finished or failed, or the budget is used up.

    Returns those that Tune lost before they began, and those of a race that waited for them. They may be run again.

    Args:
        context: The run they belong to.
        plans: The trials to run.
        finished: Those that ended before: searchers and schedulers learn from them.
        budget: The time there is.
        callbacks: Called as trials change.

    Raises:
        RunError: a cluster that only this run uses cannot hold one trial.
    """
    spec, storage = context.spec, context.storage
    watch = RoomWatch(spec.resources, callbacks.wait_for)
    room = watch.room
    if spec.resources.workers == 1:
        trainable = tune.with_parameters(TrialActor, context=context)
        trainable = tune.with_resources(trainable, {"cpu": room.cpus, "gpu": room.gpus})
    else:
        # The Tune process only waits for its workers; the workers take the resources, out of Tune's sight.
        trainable = tune.with_parameters(DistributedTrialActor, context=context, cpus=room.cpus, gpus=room.gpus)
        trainable = tune.with_resources(trainable, {"memory": 1})  # Tune wants to be asked for something
    scheduler: StopRules
    check = lambda: callbacks.check([])  # noqa: E731
    search, before = spec.search, {result.number: result for result in finished}
    leave_out = lambda plan, reason: callbacks.update(_left_out(spec, plan, reason))  # noqa: E731
    if search is not None and isinstance(search.scheduler, PopulationBasedTraining):
        queue = TrialQueue(spec, storage, plans, finished, lambda: len(plans), leave_out)  # they take turns
        scheduler = Population(spec, search, search.scheduler, storage, budget, before, check, callbacks.change)
    else:
        queue = TrialQueue(spec, storage, plans, finished, watch.slots, leave_out)
        scheduler = StopRules(spec, storage, budget, before, check, queue.drop)
    events = _TuneEvents(context, queue, budget, watch, callbacks)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler,
            num_samples=len(plans),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=storage.tune.name,
            storage_path=str(context.root),
            failure_config=tune.FailureConfig(
                # A GPU's error takes the process with it, which Tune counts as well.
                max_failures=LOST_PROCESS_RETRIES + spec.resources.max_failures
            ),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[events],
            verbose=0,
        ),
    )
    tuner.fit()
    return [chosen(storage, plan) for plan in plans if plan.number in queue.left]


def _left_out(spec: ExperimentSpec, plan: TrialPlan, reason: str) -> TrialResult:
    epochs = spec.with_params(plan.params).training.epochs
    return TrialResult(plan.number, plan.params, "stopped", epochs=epochs, reason=reason)


class _TuneEvents(tune.Callback):
    """Tune's events as trial results."""

    def __init__(
        self,
        context: RunContext,
        queue: TrialQueue,
        budget: Budget,
        watch: RoomWatch,
        callbacks: SweepCallbacks,
    ) -> None:
        self._context = context
        self._storage = context.storage
        self._queue = queue
        self._budget = budget
        self._watch = watch
        self._callbacks = callbacks
        self._began: dict[int, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its callbacks, to restore them in another process; nobody will

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        self._queue.losing.clear()
        self._callbacks.check(trials)
        self._watch.slots()
        self._budget.tick()
        if self._budget.used_up:
            self._queue.close()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        self._began.setdefault(number_of(trial), time.monotonic())
        self._update(trial, "running", trial.last_result)
        if self._budget.used_up:
            actor_of(trial).end_early.remote(self._budget.reason)

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Trial],  # noqa: ARG002
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        if not result.get("done") and not result.get("interrupted"):
            self._update(trial, "running", result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        number, result = number_of(trial), trial.last_result or {}
        try:
            self._storage.fetch(self._storage.result(number))
        except StorageAway:  # that ends the run
            return
        finished = read_result(self._storage, number)
        if finished is not None:
            self._callbacks.update(finished)
        elif "error" not in result and self._budget.used_up:
            self._update(trial, "pending", result)  # it had not begun
        else:
            error = result.get("error") or "the trial ended without a result"
            self._update(trial, "failed", result, error=error, refused=bool(result.get("refused")))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        number = number_of(trial)
        if number in self._queue.losing:
            # It died between two trials. Tune sees that twice: it recovers the trial, and then gives it up.
            self._update(trial, "pending", trial.last_result)
            return
        error = _last_error(trial)
        if account := Failures(self._context, number).account:
            error += f"\n\nbefore that it raised:\n{account}"
        self._update(trial, "failed", trial.last_result, error=error)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        self._queue.losing.add(number_of(trial))
        print(f"trial {number_of(trial)}: its process was lost; it resumes from its last checkpoint", flush=True)

    def _update(
        self,
        trial: Trial,
        state: TrialState,
        result: dict[str, Any] | None,
        *,
        error: str | None = None,
        refused: bool = False,
    ) -> None:
        result, number = result or {}, number_of(trial)
        plan = chosen(self._storage, TrialPlan(number, trial.config["params"]))
        self._callbacks.update(
            TrialResult(
                number=number,
                params=plan.params,
                state=state,
                epoch=int(result.get("epoch", 0)),
                epochs=int(result.get("epochs", 0)) or self._context.trial_spec(plan).training.epochs,
                metrics={name: value for name, value in result.items() if name in METRICS},
                seconds=time.monotonic() - self._began.get(number, time.monotonic()),
                error=error,
                refused=refused,
            )
        )


def _last_error(trial: Trial) -> str:
    """What Ray said when it gave a trial up."""
    # Tune's own way of asking looks in the storage, where the file is only later.
    file = Path(trial.pickled_error_file or "none")
    return str(cloudpickle.loads(file.read_bytes())).strip() if file.is_file() else "its process died"


def _name(trial: Trial) -> str:
    return f"trial-{number_of(trial):04d}"
