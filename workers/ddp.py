"""A trial of several processes: Ray Train's TorchTrainer (DDP over gloo or NCCL) inside one Tune trial.

Owns how the processes are started and how their progress reaches Tune. What each of them does is
trial.py's `TrialRun`. This is Ray's documented way; it costs seconds a trial, so trials of one process
do not go through here.
"""

import logging
from typing import Any

import ray.train
from ray import tune

from adadim_core.spec import TrialPlan
from workers.cluster import Room
from workers.context import RunContext
from workers.reporter import PointReporter
from workers.trial import FLUSH_SECONDS, TrialRun, describe


def train_distributed(config: dict[str, Any], context: RunContext, plans: list[TrialPlan], room: Room) -> None:
    """Tune trainable: run one trial's processes to the end."""
    # Here and not above: it imports torch, which the driver does without.
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    number = config["trial"]
    plan = next(plan for plan in plans if plan.number == number)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"context": context, "plan": plan},
        scaling_config=ray.train.ScalingConfig(
            num_workers=context.spec.resources.workers,
            use_gpu=room.gpus > 0,
            resources_per_worker={"CPU": room.cpus} | ({"GPU": room.gpus} if room.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{number:04d}",
            storage_path=str(context.storage.tune),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        first = next(iter(error.worker_failures.values()), error)
        tune.report({"error": describe(first)})


def _train_worker(config: dict[str, Any]) -> None:
    from ray.train.torch import get_device

    context: RunContext = config["context"]
    # Ray prints every report of every process; the driver prints one line for all.
    logging.getLogger().setLevel(logging.WARNING)
    leads = ray.train.get_context().get_world_rank() == 0
    reporter = PointReporter(context.service if leads else None)
    run = TrialRun(context, config["plan"], reporter, device=get_device(), leads=leads)
    try:
        while not run.done:
            ray.train.report(run.result(run.step()))
    finally:
        run.close()
        reporter.close(FLUSH_SECONDS)
