"""Runs trials with Ray Tune: the plan's trials in the plan's order, as many at once as the cluster holds.

Owns the Tuner and what its events mean. What was finished before is not its business: it gets the trials that
are left. Tune's own files under tune/ are scratch; trials resume from their own checkpoints (trial.py), which
hold however Tune, the driver or the cluster ended.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

# Read by Ray Tune when it is imported or first used.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # __main__ handles both signals the same way
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")  # Tune's state is not used
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.experiment import Trial

from adadim_core.spec import TrialPlan
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.report import TrialState
from workers.cluster import Room
from workers.context import RunContext
from workers.ddp import train_distributed
from workers.results import TrialResult, read_result
from workers.trial import TrialActor

# It misses the result files of the loggers turned off above, once a trial.
logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)

LOST_PROCESS_RETRIES = 3
"""How often a trial goes on in a new process after its process or node died. What a trial raises is final."""

OnUpdate = Callable[[TrialResult], None]


def run_trials(
    context: RunContext, plans: list[TrialPlan], room: Room, on_update: OnUpdate, check: Callable[[list[Trial]], None]
) -> None:
    """Run trials to their ends. Returns when each has finished or failed.

    Args:
        context: The run they belong to.
        plans: The trials to run.
        room: What one trial takes, and how many fit.
        on_update: Called in this thread whenever a trial starts, completes an epoch, or ends.
        check: Called in this thread several times a second. What it raises ends the run; trials then end with
            the process, having saved what they save while they run.
    """
    resources = context.spec.resources
    concurrent = resources.max_concurrent_trials
    if resources.workers == 1:
        trainable = tune.with_parameters(TrialActor, context=context, plans=plans)
        trainable = tune.with_resources(trainable, {"cpu": room.cpus, "gpu": room.gpus})
    else:
        # The Tune process only waits for its workers; the workers take the resources, out of Tune's sight,
        # so the number of trials at once must come from here.
        trainable = tune.with_parameters(train_distributed, context=context, plans=plans, room=room)
        trainable = tune.with_resources(trainable, {"memory": 1})  # Tune wants to be asked for something
        concurrent = min(concurrent or room.slots, room.slots)
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search([plan.number for plan in plans])},
        tune_config=tune.TuneConfig(
            reuse_actors=resources.workers == 1,
            max_concurrent_trials=concurrent,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=context.storage.tune.name,
            storage_path=str(context.root),
            failure_config=tune.FailureConfig(max_failures=LOST_PROCESS_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Events(context, plans, on_update, check)],
            verbose=0,
        ),
    )
    tuner.fit()


class _Events(tune.Callback):
    """Tune's events as trial results."""

    def __init__(
        self, context: RunContext, plans: list[TrialPlan], on_update: OnUpdate, check: Callable[[list[Trial]], None]
    ) -> None:
        self._storage = context.storage
        self._plans = {plan.number: plan for plan in plans}
        self._epochs = {plan.number: context.trial_spec(plan).training.epochs for plan in plans}
        self._on_update = on_update
        self._check = check
        self._began: dict[int, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores its callbacks, to restore them in another process; nobody will

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        self._check(trials)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        number = _number(trial)
        self._began.setdefault(number, time.monotonic())
        self._update(number, "running", trial.last_result)

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Trial],  # noqa: ARG002
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        if not result.get("done") and not result.get("interrupted"):
            self._update(_number(trial), "running", result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        number = _number(trial)
        self._storage.fetch(self._storage.result(number))
        finished = read_result(self._storage, number)
        if finished is not None:
            self._on_update(finished)
        else:
            error = trial.last_result.get("error") or "the trial ended without a result"
            self._update(number, "failed", trial.last_result, error)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        cause = trial.get_pickled_error()
        error = str(cause) if cause is not None else "its process died; see the Ray logs of its node"
        self._update(_number(trial), "failed", trial.last_result, error)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        number = _number(trial)
        print(f"trial {number}: its process was lost; it goes on from its last checkpoint", flush=True)

    def _update(self, number: int, state: TrialState, result: dict[str, Any] | None, error: str | None = None) -> None:
        result = result or {}
        self._on_update(
            TrialResult(
                number=number,
                params=self._plans[number].params,
                state=state,
                epoch=int(result.get("epoch", 0)),
                epochs=self._epochs[number],
                metrics={name: value for name, value in result.items() if name in METRICS},
                seconds=time.monotonic() - self._began.get(number, time.monotonic()),
                error=error,
            )
        )


def _number(trial: Trial) -> int:
    return int(trial.config["trial"])


def _name(trial: Trial) -> str:
    return f"trial-{_number(trial):04d}"
