"""What a sweep survives: the death of a trial's process, of its driver, of a node, of the whole cluster."""

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pyarrow import parquet
from worker_harness import RayHead, WorkerRun, kill_all, spooled_steps, tiny_spec, wait_for

from adadim_core.spec import validate_spec
from adadim_core.trainer import Trainer
from tests.object_stores import S3
from workers.storage.folder import Storage
from workers.storage.opening import open_storage
from workers.storage.points import merged
from workers.storage.results import read_results

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

Start = Callable[..., WorkerRun]


def sweep(*epochs: int, **sections: Any) -> dict[str, Any]:
    space = {"training.epochs": {"choice": list(epochs)}}
    return tiny_spec(search={"algorithm": "grid", "space": space}, **sections)


def trial_processes(head: RayHead, title: str = "Trainable.") -> list[psutil.Process]:
    """By default those that Tune gives resources, by its name for them."""
    found = []
    for process in head.processes():
        with contextlib.suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found


def undisturbed_encoder(epochs: int, folder: Path) -> bytes:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = Trainer(validate_spec(tiny_spec(training={"epochs": epochs})))
    trainer.fit()
    torch.set_num_threads(threads)
    trainer.export_encoder(folder)
    return (folder / "encoder.safetensors").read_bytes()


def assert_complete(storage: Storage, epochs: list[int], tmp_path: Path) -> None:
    """Every trial reached its last step, each (trial, metric, step) is there once, and the weights are the same."""
    assert storage.fetch(storage.parquet)
    rows = parquet.read_table(storage.parquet).to_pylist()
    keys = [(row["trial"], row["metric"], row["step"]) for row in rows]
    assert len(keys) == len(set(keys))
    undisturbed = {count: undisturbed_encoder(count, tmp_path / f"undisturbed-{count}") for count in set(epochs)}
    for trial, count in enumerate(epochs):
        steps = {row["step"] for row in rows if row["trial"] == trial and row["metric"] == "h_r"}
        # five steps an epoch, logged at every second one and the last
        assert steps == {step for step in range(5 * count + 1) if step % 2 == 0 or step % 5 == 0}
        encoder = storage.trial(trial) / "encoder.safetensors"
        assert storage.fetch(encoder)
        assert encoder.read_bytes() == undisturbed[count]


def held_sweep() -> tuple[dict[str, Any], list[int]]:
    """Two trials that last and one that does not, and their epochs."""
    epochs = [1, 4, 4]
    points = [{"training.epochs": n, "evaluation.knn_k": k} for n, k in zip(epochs, (10, 10, 20), strict=True)]
    space = {"training.epochs": {"choice": [1, 4]}, "evaluation.knn_k": {"choice": [10, 20]}}
    return tiny_spec(search={"algorithm": "random", "trials": 3, "points": points, "space": space}), epochs


def test_killed_trials_then_driver(ray_head: RayHead, run_workers: Start, tmp_path: Path) -> None:
    """SIGKILL to the trials' processes, then to the driver; a new attempt completes the sweep, to the bit."""
    spec, epochs = held_sweep()
    first = run_workers(spec, held_at=2)
    storage = Storage(first.storage)
    wait_for(
        lambda: storage.result(0).exists() and all(first.holds(n) for n in (1, 2)),
        seconds=200,
        what="a result and two trials that are held",
    )
    for process in trial_processes(ray_head):
        process.kill()
    wait_for(
        lambda: first.output.count("it resumes from its last checkpoint") == 2, seconds=200, what="both were missed"
    )
    first.process.kill()
    first.process.wait()
    finished = storage.result(0).stat().st_mtime_ns

    second = run_workers(spec)
    assert second.finish(200) == 0, second.output
    assert "= 3 trials, 2 to run" in second.output
    assert_gone_on(storage, epochs, finished, tmp_path)


@pytest.mark.slow
def test_a_killed_cluster(run_workers: Start, tmp_path: Path) -> None:
    """SIGKILL to the whole cluster and the driver; another cluster completes the sweep, to the bit."""
    spec, epochs = held_sweep()
    head = RayHead()
    try:
        first = run_workers(spec, head=head, held_at=2)
        storage = Storage(first.storage)
        wait_for(
            lambda: storage.result(0).exists() and all(first.holds(n) for n in (1, 2)),
            seconds=200,
            what="a result and two trials that are held",
        )
        finished = storage.result(0).stat().st_mtime_ns
        head.kill()
        kill_all(psutil.Process(first.process.pid))
    finally:
        head.stop()
    head = RayHead()
    try:
        second = run_workers(spec, head=head)
        assert second.finish(200) == 0, second.output
    finally:
        head.stop()
    assert_gone_on(storage, epochs, finished, tmp_path)


def assert_gone_on(storage: Storage, epochs: list[int], finished: int, tmp_path: Path) -> None:
    """The second attempt left trial 0 as it was `finished`, and trained the others on from their checkpoints."""
    assert [result.epoch for result in read_results(storage)] == epochs
    assert storage.result(0).stat().st_mtime_ns == finished, "a finished trial was run again"
    for trial in (1, 2):
        runs = spooled_steps(storage.root, trial)
        assert runs[0][0] == 0
        for before, after in itertools.pairwise(runs):
            assert 0 < after[0] <= before[-1] + 5, "it goes on from its checkpoint"
    assert_complete(storage, epochs, tmp_path)


@pytest.mark.slow
def test_a_lost_process_of_two(ray_head: RayHead, run_workers: Start, tmp_path: Path) -> None:
    """Both go on in new processes. `max_failures` is for what a trial raises."""
    run = run_workers(tiny_spec(training={"epochs": 50}, resources={"workers": 2}))
    storage = Storage(run.storage)
    wait_for(lambda: storage.checkpoint(0).exists(), seconds=200, what="a checkpoint")
    trial_processes(ray_head, "RayTrainWorker")[1].kill()
    assert not storage.result(0).exists(), "the test came too late"
    assert run.finish(200) == 0, run.output
    first, second = spooled_steps(run.storage, 0)
    assert 0 == first[0] < second[0], "it did not begin again"
    assert second[-1] == 250


DYING = """
import os, sys
from pathlib import Path
import workers.sweep.tuner
from workers.__main__ import main
from workers.trial.actor import TrialActor

class Dying(TrialActor):
    def reset_config(self, new_config):
        mark = Path(sys.path[0], "died")
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return super().reset_config(new_config)

workers.sweep.tuner.TrialActor = Dying
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_that_dies_between_two_trials(ray_head: RayHead, tmp_path: Path) -> None:
    """The trial that was to be its next is run again: Tune alone gives it up."""
    (tmp_path / "spec.json").write_text(json.dumps(sweep(1, 2, 3, resources={"max_concurrent_trials": 1})))
    script = DYING.replace("sys.path[0]", repr(str(tmp_path)))
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")],
        env=ray_head.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (tmp_path / "died").exists()
    assert run.returncode == 0, run.stdout + run.stderr
    results = read_results(Storage(tmp_path / "results"))
    assert [(result.state, result.epoch) for result in results] == [("succeeded", n) for n in (1, 2, 3)]


@pytest.mark.slow
def test_a_lost_node(ray_head: RayHead, run_workers: Start, s3: S3, tmp_path: Path) -> None:
    """Its trial goes on elsewhere from its checkpoint in the object store; the node's own files are gone."""
    epochs = [70] * 3
    # In the address: trial processes have their node's environment, not the driver's.
    place = f"s3://id:secret@bucket/{tmp_path.name}?endpoint_override={s3.address}&scheme=http&region=us-east-1"
    scratch = tmp_path / "node"
    scratch.mkdir()
    node = ray_head.add_node(TMPDIR=str(scratch))
    try:
        space = {"evaluation.knn_k": {"choice": [10, 20, 30]}}  # which changes nothing in the training
        run = run_workers(
            tiny_spec(search={"algorithm": "grid", "space": space}, training={"epochs": 70}), storage=place
        )
        storage = open_storage(place)

        def trial_there() -> int | None:
            """The trial that the second node trains, once it has a checkpoint in the object store."""
            for file in scratch.glob("adadim-*/*/points/*.jsonl"):
                trial = int(file.name[:4])
                if storage.fetch(storage.checkpoint(trial)):
                    return trial + 1
            return None

        trial = wait_for(trial_there, seconds=200, what="a checkpoint from the second node") - 1
        node.kill()
        assert not storage.fetch(storage.result(trial)), "the test came too late"
        assert run.finish(300) == 0, run.output
    finally:
        node.kill()
    assert f"trial {trial}: its process was lost; it resumes from its last checkpoint" in run.output
    storage.fetch_records()
    runs = spooled_steps(storage.root, trial)
    assert len(runs) >= 2
    assert runs[-1][0] > 0, "it did not begin again"
    assert merged(storage, trial)[-1].step == 5 * epochs[trial]
    assert_complete(storage, epochs, tmp_path)
