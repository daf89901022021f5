"""The order of one run: storage -> plan -> what is left of it -> cluster -> trials -> results -> outcome."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adadim_core.spec import ExperimentSpec, TrialPlan, plan_summary, plan_trials
from adadim_core.spec.report import Outcome
from workers.context import RunContext
from workers.data_check import check_data
from workers.data_paths import folder_of, paths_of, second_path
from workers.interruption import Interrupted, Interruption
from workers.reporting.attempt import Attempt
from workers.reporting.connection import ServiceAddress
from workers.reporting.progress import Progress
from workers.storage.claim import prepare
from workers.storage.data_record import NewData
from workers.storage.folder import Storage
from workers.storage.points import write_points
from workers.storage.ranking import BestCheckpoint, best, ranking
from workers.storage.results import (
    commonest_error,
    print_results,
    read_results,
    refusal,
    run_succeeded,
    write_results,
)
from workers.storage.trial_result import TrialResult, chosen, read_result
from workers.sweep.budget import Budget
from workers.sweep.race import never_to_start

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def run_experiment(
    spec: ExperimentSpec,
    storage: Storage,
    service: ServiceAddress | None,
    attempt: Attempt,
    interruption: Interruption,
    folders: Sequence[Path] = (Path(),),
) -> Outcome:
    """Run the trials that no earlier attempt finished, and store and print the results of all.

    Args:
        spec: The experiment.
        storage: Where its files go.
        service: The service to report to; None: there is none.
        attempt: The attempt, through which trials' states are reported.
        interruption: Whether the run should end.
        folders: Where a relative data.path may begin: the spec's folder, the caller's.

    Raises:
        RunError: the folder, the data or the cluster cannot be used for this spec.
        Interrupted: asked to end; the results so far are stored.
    """
    prepare(storage, spec)
    plans = plan_trials(spec)
    progress = Progress(attempt, plans, NewData(spec, storage))
    budget = Budget(spec.stop.minutes, storage)
    begun = storage.checkpointed()
    left = _take_up(spec, storage, plans, progress, begun)
    resumed = len(begun & {plan.number for plan in left})
    going_on = f" ({resumed} from checkpoints)" if resumed else ""
    print(f"{spec.name}: {plan_summary(spec)}, {len(left)} to run{going_on}; results in {storage.place}", flush=True)
    try:
        if left:
            paths = paths_of(spec, left)
            data_folder = folder_of([*paths, *second_path(spec)], folders)
            context = RunContext(spec, storage.location, _run_name(service), service, data_folder, storage)
            _train(context, left, progress, interruption, budget, begun, paths)
    except Interrupted:
        interruption.disarm()
        progress.interrupt()
        if service is None:
            print(f"to go on where this ends, run it again with --storage {storage.place}", flush=True)
        raise
    finally:
        results = [progress.results[plan.number] for plan in plans]
        write_results(storage, spec, results)
    storage.fetch_records()
    write_points(storage, [plan.number for plan in plans])
    _print_results(spec, storage, results)
    if refused := refusal(results):
        return Outcome(state="failed", error=refused)
    if run_succeeded(results):
        return Outcome(state="succeeded")
    if budget.used_up:
        return Outcome(state="failed", error=f"{budget.reason} before any trial reached its first result")
    return Outcome(state="failed", error=f"every trial failed\n{commonest_error(results)}")


def _take_up(
    spec: ExperimentSpec, storage: Storage, plans: list[TrialPlan], progress: Progress, begun: set[int]
) -> list[TrialPlan]:
    """Account for every trial of the plan, finished ones with their results. Returns those that are not.

    Of those, the ones that have `begun` are shown with their last metrics; the others start again without.
    """
    left = []
    before = {result.number: result for result in read_results(storage) if result.number in begun}
    for plan in plans:
        finished = read_result(storage, plan.number)
        if finished is not None:  # before it had siblings its seed was the spec's own, and not told
            finished = replace(finished, params={**plan.params, **finished.params})
        plan = chosen(storage, plan)  # noqa: PLW2901 - from here on that is the plan
        epochs = spec.with_params(plan.params).training.epochs
        known = before.get(plan.number) or TrialResult(plan.number, plan.params, "pending")
        waiting = TrialResult(plan.number, plan.params, "pending", known.epoch, epochs, known.metrics)
        progress.update(finished or waiting)
        if finished is None:
            left.append(plan)
    return left


def _train(
    context: RunContext,
    plans: list[TrialPlan],
    progress: Progress,
    interruption: Interruption,
    budget: Budget,
    begun: set[int],
    data: list[str],
) -> None:
    storage = context.storage
    out = never_to_start(context.spec, plans, progress.ended_well())
    for plan in plans:
        if plan.number in out:
            progress.update(replace(progress.results[plan.number], state="stopped", reason=out[plan.number]))
    plans = [plan for plan in plans if plan.number not in out]
    # With no time left, trials that earlier attempts trained still write their results.
    left = [plan for plan in plans if plan.number in begun or not budget.used_up]
    kept = BestCheckpoint(context.spec, storage, progress.ended_well())
    if left:
        # Trials of a local cluster see what this process sees; nodes of another one are asked (nodes.py).
        if not os.environ.get("RAY_ADDRESS"):
            check_data(context, left, data)
        # Imported here: it takes seconds, and the service gets the first heartbeat before.
        from workers.sweep.cluster import connect
        from workers.sweep.ending import Ending
        from workers.sweep.nodes import NodeCheck
        from workers.sweep.tuner import SweepCallbacks, run_trials
        from workers.trial.failures import LOST_PROCESS_RETRIES

        connect(context.spec.resources)
        interruption.install()

        def update(result: TrialResult) -> None:
            progress.update(result)
            kept.offer(result)

        try:
            with interruption.deferred():
                interruption.check()
                ending = Ending(context.run, interruption)
                nodes = NodeCheck(context.spec.resources, data, context.data_folder)

                def check(trials: "list[Trial]") -> None:
                    ending.check(trials)
                    nodes.look()

                callbacks = SweepCallbacks(update, progress.change, progress.wait_for, check)
                for _ in range(LOST_PROCESS_RETRIES + 1):
                    left = run_trials(context, left, progress.ended_well(), budget, callbacks) if left else []
        finally:
            budget.store()
    for result in list(progress.results.values()):
        if result.state == "pending" and budget.used_up:
            progress.update(replace(result, state="stopped", reason=budget.reason))
        elif result.state == "pending":
            progress.update(replace(result, state="failed", error="its process was lost, again and again"))


def _print_results(spec: ExperimentSpec, storage: Storage, results: list[TrialResult]) -> None:
    print_results(spec, results)
    kept = best(spec, results)
    if kept is not None:
        metric, _ = ranking(spec)
        value = f"{metric} {kept.metrics[metric]:.4g}"
        print(f"checkpoint kept: trial {kept.number} ({value}), in {storage.shown(storage.trial(kept.number))}")
    print(f"results: {storage.shown(storage.results)}", flush=True)


def _run_name(service: ServiceAddress | None) -> str:
    """Sets this run's spools apart from those of other attempts."""
    label = service.attempt if service is not None else "local"
    return f"{label}-{time.time_ns() // 1_000_000:x}"
