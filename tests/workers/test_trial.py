"""What Tune sees of a trial, step by step, with real training and storage. No cluster."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
from ray import cloudpickle
from ray.exceptions import RayActorError
from worker_harness import tiny_spec

from adadim_core.spec import ExperimentSpec, TrialPlan, validate_spec
from workers.context import RunContext
from workers.storage.points import merged
from workers.storage.ranking import BestCheckpoint
from workers.storage.trial_result import TrialResult, read_result, write_result
from workers.sweep.budget import Budget
from workers.sweep.queue import TrialQueue
from workers.sweep.tuner import SweepCallbacks, _TuneEvents
from workers.trial.actor import TrialActor
from workers.trial.distributed import DistributedTrialActor, Gate, _is_lost, _train_worker, cause
from workers.trial.failures import Diverged, Failures, device_is_lost

Actor = Callable[..., TrialActor]


class Exited(BaseException):
    """This process of a trial is gone."""


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    spec = tiny_spec(training={"epochs": 3}, resources={"max_failures": 1})
    return RunContext(validate_spec(spec), str(tmp_path), "run-1", None)


@pytest.fixture
def actor(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> Actor:
    """A new process for a trial, as far as anyone can tell."""

    def leave() -> None:
        raise Exited

    def start(number: int = 0) -> TrialActor:
        actor = TrialActor.__new__(TrialActor)
        actor.config = {"trial": number, "params": {}}
        actor.setup(actor.config, context)
        return actor

    monkeypatch.setattr("ray.actor.exit_actor", leave)
    return start


def broken(error: str) -> Callable[..., None]:
    def train(*_: Any) -> None:
        raise RuntimeError(error)

    return train


def test_a_trial_that_is_told_to_end_does_so_in_its_next_step(actor: Actor, context: RunContext) -> None:
    process = actor()
    first = process.step()
    assert not first["done"]
    process.end_early("too far behind, at epoch 1")
    assert read_result(context.storage, 0) is None
    last = process.step()
    assert last["done"]
    assert last["h_r"] == first["h_r"]
    result = read_result(context.storage, 0)
    assert result is not None
    assert (result.state, result.epoch, result.reason) == ("stopped", 1, "too far behind, at epoch 1")
    assert (context.storage.trial(0) / "encoder.safetensors").exists()
    assert context.storage.checkpointed() == {0}, "it may be the best"


@pytest.mark.slow
def test_the_first_point_does_not_wait_for_torchs_compiler(tmp_path: Path) -> None:
    code = """
import json, sys, threading
from types import SimpleNamespace
from adadim_core.spec import TrialPlan, validate_spec
from workers.context import RunContext
from workers.trial.run import TrialRun

compiler_at_report = []
report = lambda *_: compiler_at_report.append("torch._dynamo" in sys.modules)
reporter = SimpleNamespace(open=lambda path, _: SimpleNamespace(append=report, path=path, close=lambda: None))
context = RunContext(validate_spec(json.loads(sys.argv[1])), sys.argv[2], "run-1", None)
TrialRun(context, TrialPlan(0, {}), reporter, threading.Event()).step()
print(compiler_at_report[0], len(compiler_at_report))
"""
    command = [sys.executable, "-c", code, json.dumps(tiny_spec(training={"epochs": 2})), str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    first, reports = output.split()
    assert (first, int(reports) > 1) == ("False", True)


def test_a_finished_trial_whose_process_died_is_not_trained_again(actor: Actor, context: RunContext) -> None:
    write_result(context.storage, TrialResult(0, {}, "succeeded", 3, 3, {"h_r": 1.5}))
    assert actor().step() == {"h_r": 1.5, "epoch": 3, "epochs": 3, "done": True}
    assert not list(context.storage.points.glob("*"))


def test_with_no_time_left_a_trial_leaves_what_it_came_to(actor: Actor, context: RunContext) -> None:
    process = actor(0)
    trained = process.step()
    saved = process.save()
    assert saved.checkpoint is None, "Tune has nothing to store, or to restore from"
    for number in (0, 1):
        again = actor(number)
        again.end_early("no time left")
        assert again.step()["done"]
    result = read_result(context.storage, 0)
    assert result is not None
    assert (result.epoch, result.reason, result.metrics["h_r"]) == (1, "no time left", trained["h_r"])
    assert read_result(context.storage, 1) is None, "it never began; with more time it will"


def test_a_trial_whose_process_died_before_its_result_was_written_still_leaves_one(
    actor: Actor, context: RunContext
) -> None:
    process = actor()
    for _ in range(3):
        process.step()
    context.storage.result(0).unlink()  # the checkpoint of the last step is there
    again = actor()
    again.end_early("no time left")
    assert again.step()["done"]
    result = read_result(context.storage, 0)
    assert result is not None
    assert (result.state, result.epoch, result.reason) == ("succeeded", 3, None)


def test_a_trial_that_ends_between_two_evaluations_is_evaluated(tmp_path: Path, actor: Actor) -> None:
    document = tiny_spec(training={"epochs": 3}, evaluation={"every_epochs": 3})
    context = RunContext(validate_spec(document), str(tmp_path / "other"), "run-1", None)
    process = actor()
    process.setup(process.config, context)
    assert "knn_top1" not in process.step()
    process.end_early("no time left")
    process.step()
    result = read_result(context.storage, 0)
    assert result is not None
    assert result.metrics["knn_top1"] > 0
    process.cleanup()
    points = merged(context.storage, 0)
    assert points[-1].values["knn_top1"] == result.metrics["knn_top1"]
    assert "`knn_top1`" in (context.storage.trial(0) / "README.md").read_text()


def test_weights_that_cannot_be_taken_over_leave_the_trial_as_it_was_with_the_values_on_record(
    actor: Actor, context: RunContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = actor()
    trained = process.step()
    process.save()
    params = {"training.lr": 0.05}
    context.storage.write_json(context.storage.params(0), params)
    with monkeypatch.context() as patched:
        patched.setattr("workers.trial.run.TrialRun.take_over", broken("CUDA out of memory"))
        process.take_over(1, params, [])
    assert "CUDA out of memory" in caplog.text
    assert process.step()["epoch"] == trained["epoch"] + 1
    process.end_early("enough")
    process.step()
    result = read_result(context.storage, 0)
    assert result is not None
    assert result.params == params
    assert result.metrics["lr"] > 0.001


def test_who_takes_over_the_weights_of_a_finished_trial_has_its_numbers(actor: Actor, context: RunContext) -> None:
    donor, taker = actor(1), actor(0)
    for _ in range(3):
        finished = donor.step()
    taker.step()
    context.storage.write_json(context.storage.params(0), {"training.lr": 0.002})
    taker.take_over(1, {"training.lr": 0.002}, [])
    taker.step()
    result = read_result(context.storage, 0)
    assert result is not None
    assert (result.epoch, result.metrics["h_r"]) == (3, finished["h_r"])


def test_a_checkpoint_is_written_once_a_step(
    actor: Actor, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = actor()
    process.step()
    process.keep()
    written = context.storage.checkpoint(0).stat().st_mtime_ns
    process.save()
    assert context.storage.checkpoint(0).stat().st_mtime_ns == written
    process.step()
    process.save()
    assert context.storage.checkpoint(0).stat().st_mtime_ns != written


def test_a_trial_that_cannot_write_its_points_leaves_the_streams_as_they_were(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.stdout
    monkeypatch.setattr("workers.reporting.reporter.PointReporter.open", broken("no space left"))
    process = actor()
    for _ in range(3):
        process.step()
        process.reset_config({})
    assert sys.stdout is before


def test_processes_that_do_not_end_take_the_actor_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise Exited

    monkeypatch.setattr("ray.actor.exit_actor", leave)
    monkeypatch.setattr("workers.trial.distributed._END_SECONDS", 0.05)
    held = threading.Event()
    waits: Any = DistributedTrialActor.__new__(DistributedTrialActor)
    waits.config, waits._gate = {"trial": 0}, SimpleNamespace(leave=SimpleNamespace(remote=lambda: None))
    waits._thread = threading.Thread(target=held.wait, daemon=True)
    waits._thread.start()
    with pytest.raises(Exited):
        waits.reset_config({})
    held.set()


def test_a_trial_of_several_processes_that_the_run_leaves_unfinished_has_no_result(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a run breaks off between two epochs: a later attempt trains it on."""

    class Local:
        """The gate in this process."""

        def __init__(self) -> None:
            self._gate = Gate()

        def __getattr__(self, name: str) -> Any:
            def remote(*arguments: Any) -> Any:
                found = getattr(self._gate, name)(*arguments)
                return asyncio.run(found) if asyncio.iscoroutine(found) else found

            return SimpleNamespace(remote=remote)

    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.kill", lambda _: None)
    waits: Any = DistributedTrialActor.__new__(DistributedTrialActor)
    waits._gate, waits._thread = Local(), threading.Thread(target=int)
    waits._thread.start()
    gate = waits._gate
    waits.cleanup()
    gate.restart.remote()  # processes that were lost meanwhile are told so, too
    _train_worker({"context": context, "plan": TrialPlan(0, {}), "gate": gate, "early": ""})
    assert read_result(context.storage, 0) is None
    assert context.storage.checkpointed() == {0}


def test_the_queue_then_starts_only_what_was_trained_before(context: RunContext) -> None:
    storage = context.storage
    storage.checkpoint(1).parent.mkdir(parents=True)
    storage.checkpoint(1).touch()
    queue = TrialQueue(
        ExperimentSpec(name="a"), storage, [TrialPlan(n, {}) for n in range(3)], [], lambda: 9, lambda *_: None
    )
    queue.close()
    assert queue.suggest("a") == {"trial": 1, "params": {}}
    assert queue.suggest("b") == "FINISHED"


def test_failures_count_over_processes_and_are_not_forgotten(
    actor: Actor, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost GPU takes its process along: before the next step, in which Tune would start that trial again."""
    monkeypatch.setattr("workers.trial.actor.device_is_lost", lambda: True)
    monkeypatch.setattr("workers.trial.run.TrialRun.step", broken("CUDA error: an illegal memory access"))
    with pytest.raises(Exited):
        actor().step()
    assert Failures(context, 0).account.startswith("RuntimeError: CUDA error: an illegal memory access")
    second = actor()
    result = second.step()
    assert result["done"]
    assert "CUDA error" in result["error"]
    assert second.reset_config({})
    with pytest.raises(Exited):
        second.step()
    assert Failures(RunContext(context.spec, context.location, "run-2", None), 0).count == 0


def test_a_trial_that_tune_lost_between_two_is_run_again(context: RunContext, tmp_path: Path) -> None:
    updates: list[TrialResult] = []
    callbacks = SweepCallbacks(updates.append, lambda *_: None, lambda _: None, lambda _: None)
    queue = TrialQueue(context.spec, context.storage, [], [], lambda: 1, lambda *_: None)
    watch: Any = SimpleNamespace(slots=lambda: 1)
    events = _TuneEvents(context, queue, Budget(None, context.storage), watch, callbacks)
    error = tmp_path / "error.pkl"
    error.write_bytes(cloudpickle.dumps(RayActorError(error_msg="The actor died.\nOut of memory\n")))
    trial: Any = SimpleNamespace(config={"trial": 4, "params": {}}, last_result=None, pickled_error_file=str(error))
    events.on_trial_recover(iteration=7, trials=[], trial=trial)
    events.on_trial_error(iteration=7, trials=[], trial=trial)
    assert updates[-1].state == "pending"
    events.on_step_begin(iteration=8, trials=[])
    Failures(context, 4).add("RuntimeError: CUDA error")
    events.on_trial_error(iteration=9, trials=[], trial=trial)
    assert updates[-1].state == "failed"
    assert updates[-1].error == "The actor died.\nOut of memory\n\nbefore that it raised:\nRuntimeError: CUDA error"


def test_only_the_best_checkpoint_stays(context: RunContext) -> None:
    storage = context.storage
    for number in range(4):
        for name in ("checkpoint.pt", "checkpoint.previous.pt", ".checkpoint.pt.0a.tmp"):
            (storage.trial(number) / name).parent.mkdir(parents=True, exist_ok=True)
            (storage.trial(number) / name).touch()
    results = [TrialResult(n, {}, "stopped", metrics={"knn_top1": value}) for n, value in enumerate((0.2, 0.5, 0.4))]
    best = BestCheckpoint(context.spec, storage, results[:1])
    assert storage.checkpointed() == {0, 1, 2, 3}
    for result in results[1:]:
        best.offer(result)
    best.offer(TrialResult(3, {}, "running", metrics={"knn_top1": 0.1}))
    assert storage.checkpointed() == {1, 3}
    assert not list(storage.trial(0).iterdir())


def test_a_device_that_takes_no_work_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked: one whose memory was full takes work again."""
    import torch

    def synchronize() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    assert not device_is_lost(), "there is none"
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    assert not device_is_lost()
    monkeypatch.setattr("torch.cuda.synchronize", synchronize)
    assert device_is_lost()


GLOO = """
import os, sys
import torch, torch.distributed as dist
rank = int(sys.argv[1])
dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=rank, world_size=2)
dist.barrier()
if rank == 1:
    os._exit(9)
try:
    while True:
        dist.all_reduce(torch.ones(3))
except RuntimeError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_what_gloo_says_of_a_process_that_died_is_known(tmp_path: Path) -> None:
    """It has no class of its own: a torch that says it in other words must not pass unseen."""
    command = [sys.executable, "-c", GLOO]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    output, _ = processes[0].communicate(timeout=120)
    processes[1].wait(60)
    name, _, words = output.strip().partition(" ")
    assert name == "RuntimeError" or name.startswith("Dist")
    error = RuntimeError(words) if name == "RuntimeError" else getattr(__import__("torch").distributed, name)(words)
    assert _is_lost(error)


def test_what_began_a_failure_of_several_processes_is_told_from_what_followed() -> None:
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
    from torch.distributed import DistBackendError

    followed = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    died, raised = WorkerHealthCheckFailedError("a check failed", RayActorError()), ValueError("a bug")
    assert cause([followed, died]) is died
    assert cause([followed, died, raised]) is raised
    assert cause([]) is None
    assert all(map(_is_lost, (followed, died, DistBackendError("NCCL error"), RayActorError())))
    assert not any(map(_is_lost, (raised, Diverged(), RuntimeError("CUDA out of memory"))))
    assert not _is_lost(ray.train.WorkerGroupError("it failed", {}))
