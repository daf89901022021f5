"""A trial of several processes: Ray Train's TorchTrainer (DDP over gloo or NCCL) inside one Tune trial.

Owns how the processes are started, how their epochs reach Tune, and how Tune's verdict on each comes back. What each
of them does is run.py's `TrialRun`. TorchTrainer costs seconds a trial, so trials of one process do without it.

After every epoch the processes wait for the verdict. So a stopped trial ends as any other does: Ray Train
takes its processes and their placement group down in order, and nothing is left behind (as in ray#54305, where a
trial was killed from outside).
"""

import asyncio
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable
from typing import Any

import ray
import ray.train
from ray import tune

from adadim_core.spec import TrialPlan
from workers.context import RunContext
from workers.reporting.reporter import FLUSH_SECONDS, PointReporter
from workers.trial.failures import LOST_PROCESS_RETRIES, Failures, describe, failed_step, is_final
from workers.trial.log_tail import LogTail
from workers.trial.run import TrialRun, finished_step
from workers.trial.stop_signal import stop_signal

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # Ray looks every 2 s whether processes ended
# Saves a process per trial. It would make training wait until a node that will go is gone; ours resumes elsewhere.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_END_SECONDS = 120.0
"""How long ending processes may take to write what they have, over a slow network say."""
# What gloo raises when another process of the trial does not answer any more is a bare RuntimeError: there is nothing
# but its message to recognise it by. tests/workers/test_trial.py has a real process group break, and reads them.
_GLOO = re.compile(r"gloo|Connection (closed|reset) by peer")


class DistributedTrialActor(tune.Trainable):
    """Ray Tune's view of trials of several processes: it only waits for them. Reused, as its import takes seconds."""

    def setup(self, config: dict[str, Any], context: RunContext, cpus: int, gpus: float) -> None:  # type: ignore[override] # noqa: ARG002
        self._context, self._cpus, self._gpus = context, cpus, gpus
        self._gate: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._early = ""

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune has stored it as self.config
        self._leave()
        self._early = ""
        return True

    def step(self) -> dict[str, Any]:
        """One epoch of all processes. What the trial raises is its result."""
        if self._thread is not None:
            self._gate.answer.remote(self._early)
        elif (ended := finished_step(self._context, self.config["trial"])) is not None:
            return ended
        else:
            self._start()
        result = self._next()
        if result is None or result["done"]:
            self._join()  # from here on the processes and what they held are gone
        if result is None:
            error = self._error or RuntimeError("the trial ended without a result")
            return failed_step(error, describe(error))
        return result

    def end_early(self, reason: str) -> None:
        """End the trial early: its next step writes encoder and result, and is its last."""
        self._early = reason

    def cleanup(self) -> None:
        self._leave()

    def _start(self) -> None:
        self._gate = _GateActor.remote()
        self._error = None
        self._thread = threading.Thread(target=self._fit, name="torch-trainer", daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        """Run the processes to the end, again after failures as often as the spec allows, or as processes may die."""
        number, lost = self.config["trial"], 0
        while True:
            self._fit_once()
            if self._error is None:
                return
            if _is_lost(self._error):
                lost += 1
                if lost > LOST_PROCESS_RETRIES:
                    return
            else:
                failures = Failures(self._context, number)
                failures.add(describe(self._error))
                if failures.count > self._context.spec.resources.max_failures or is_final(self._error):
                    return
            logger.warning("trial %d resumes from its last checkpoint after: %s", number, describe(self._error))
            ray.get(self._gate.restart.remote())

    def _fit_once(self) -> None:
        # Imported here: it imports torch, which the driver does not need.
        from ray.train.torch import TorchTrainer

        self._error = None
        number = self.config["trial"]
        plan = TrialPlan(number, self.config["params"])
        try:
            TorchTrainer(
                _train_worker,
                train_loop_config={"context": self._context, "plan": plan, "gate": self._gate, "early": self._early},
                scaling_config=ray.train.ScalingConfig(
                    num_workers=self._context.spec.resources.workers,
                    use_gpu=self._gpus > 0,
                    resources_per_worker={"CPU": self._cpus} | ({"GPU": self._gpus} if self._gpus else {}),
                ),
                run_config=ray.train.RunConfig(
                    name=f"train-{number:04d}",
                    storage_path=self._context.storage.train,
                    logging_config=ray.train.LoggingConfig(log_level="WARNING"),  # type: ignore[call-arg]
                ),
            ).fit()
        except ray.train.WorkerGroupError as error:
            self._error = cause(error.worker_failures.values()) or error
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails this trial only
            self._error = error

    def _next(self) -> dict[str, Any] | None:
        """The next epoch's result; None if the processes ended without one."""
        wanted = self._gate.next.remote()
        while self._thread is not None:
            alive = self._thread.is_alive()
            ready, _ = ray.wait([wanted], timeout=_POLL_SECONDS)
            if ready:
                result: dict[str, Any] = ray.get(wanted)
                return result
            if not alive:
                break
        return None

    def _leave(self) -> None:
        """Let a trial that has not ended save and go: a later attempt trains it on."""
        if self._thread is not None:
            self._gate.leave.remote()
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
            if self._thread.is_alive():
                # The next trial must not share this process with a thread that may yet begin the last one again.
                logger.warning("trial %s: its processes do not end", self.config["trial"])
                ray.actor.exit_actor()  # type: ignore[no-untyped-call]
            ray.kill(self._gate)
        self._thread = None


class Gate:
    """Between the first of a trial's processes and Tune: epochs go one way, verdicts the other."""

    def __init__(self) -> None:
        self._results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()
        self._leaving = False

    async def report(self, result: dict[str, Any]) -> str | None:
        """Takes an epoch's result and waits for the verdict.

        Returns why training should end, empty: it should not; None: save and leave, the trial has no end yet.
        """
        self._results.put_nowait(result)
        if result["done"]:
            return ""
        return None if self._leaving else await self._answers.get()

    async def next(self) -> dict[str, Any]:
        """The next result, once there is one."""
        return await self._results.get()

    def restart(self) -> None:
        """New processes report from here on; a verdict meant for those before must not reach them."""
        self._answers = asyncio.Queue()

    def answer(self, reason: str) -> None:
        """The verdict on the last result."""
        self._answers.put_nowait(reason)

    def leave(self) -> None:
        """There will be no verdict any more, for processes that begin again neither."""
        self._leaving = True
        self._answers.put_nowait(None)


_GateActor = ray.remote(num_cpus=0)(Gate)
_GO_ON, _END, _LEAVE = 0.0, 1.0, 2.0
"""A verdict, as the first process hands it to the others."""


def _train_worker(config: dict[str, Any]) -> None:
    from ray.train.torch import get_device

    from adadim_core import distributed

    context: RunContext = config["context"]
    logging.getLogger().setLevel(logging.WARNING)
    leads = ray.train.get_context().get_world_rank() == 0
    reporter = PointReporter(context.service if leads else None)
    run: TrialRun | None = None
    tail = LogTail()
    try:
        run = TrialRun(context, config["plan"], reporter, stop_signal(context.run), device=get_device(), leads=leads)
        metrics = run.end_early(config["early"]) if config["early"] else run.step()
        reason: str | None = ""
        while True:
            if leads:
                reason = ray.get(config["gate"].report.remote(run.result(metrics)))
            if run.done:
                break
            verdict = _LEAVE if reason is None else _END if reason else _GO_ON
            verdict = distributed.broadcast_float(verdict, run.trainer.device)
            if verdict == _LEAVE:
                if leads:
                    run.save()
                break
            metrics = run.end_early(reason or "") if verdict == _END else run.step()
    except Exception as error:
        # Where it came from does not travel with an exception.
        error.add_note(describe(error, tail.lines()).partition("\n\n")[2])
        raise
    finally:
        if run is not None:
            run.close()
        reporter.close(FLUSH_SECONDS)


def cause(failures: Iterable[BaseException]) -> BaseException | None:
    """Of what the processes of a trial failed with, that which began it: it fails the others' collective operations."""
    return min(failures, key=lambda error: (_is_collective(error), _is_lost(error)), default=None)


def _is_lost(error: BaseException) -> bool:
    """Whether a process or its node died. Where every process reports a lost connection, one of them did."""
    # What Ray says of a process is of its own classes, most of them private; what the process raised is not.
    by_ray = type(error).__module__.partition(".")[0] == "ray" and not isinstance(error, ray.train.TrainingFailedError)
    return by_ray or _is_collective(error)


def _is_collective(error: BaseException) -> bool:
    """Whether it says that another process of the trial does not answer."""
    if not isinstance(error, RuntimeError):
        return False
    torch = sys.modules.get("torch.distributed")  # it is imported where an error of its classes arrived
    return (torch is not None and isinstance(error, torch.DistError)) or _GLOO.search(str(error)) is not None
