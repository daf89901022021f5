"""Sweeps with searchers and schedulers on a real Ray cluster, killed in between."""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from worker_harness import FakeService, RayHead, WorkerRun, tiny_spec, wait_for

from tests.object_stores import S3
from workers.storage.folder import Storage, read_json
from workers.storage.opening import open_storage
from workers.storage.trial_result import read_result

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[..., WorkerRun]

FIXED = {"weighting": {"policy": "fixed"}}


WATCH = """
import json, sys, time
import ray

ray.init(logging_level="ERROR")
with open(sys.argv[1], "w") as file:
    while True:
        groups = [g["state"] for g in ray.util.placement_group_table().values()]
        free = ray.available_resources().get("CPU", 0)
        print(json.dumps({"free": free, "groups": sum(s != "REMOVED" for s in groups)}), file=file, flush=True)
        time.sleep(0.1)
"""


def test_asha_stops_trials_of_two_workers_and_everything_they_held_comes_back(
    run_workers: Start, ray_head: RayHead, tmp_path: Path
) -> None:
    """Each trial takes the whole cluster: the next can start only if the one before left nothing behind."""
    search = {
        "algorithm": "grid",
        "metric": "loss",
        "mode": "min",
        "scheduler": {"name": "asha", "grace_epochs": 1, "reduction": 3},
        "space": {"objective.weighting.alpha": {"choice": [1.0, 0.0, 0.1]}},
    }
    log = tmp_path / "free.jsonl"
    with subprocess.Popen([sys.executable, "-c", WATCH, str(log)], env=ray_head.environment()) as watch:
        before = wait_for(
            lambda: log.exists() and next((sample for sample in samples(log) if sample["free"] == 2.0), None),
            seconds=200,
            what="a free cluster",
        )
        run = run_workers(tiny_spec(objective=FIXED, resources={"workers": 2}, search=search))
        assert run.finish(300) == 0, run.output
        wait_for(lambda: samples(log)[-1] == before, seconds=200, what="resources as before")
        watch.kill()
    results = json.loads((run.storage / "results.json").read_text())["trials"]
    assert [(trial["state"], trial["epoch"]) for trial in results] == [("succeeded", 2), ("stopped", 1), ("stopped", 1)]
    assert results[1]["reason"].startswith("asha: loss")
    for number in range(3):
        assert (run.storage / "trials" / f"{number:04d}" / "encoder.safetensors").exists()
    # Between any two trials, and after the last, the cluster was as free as before the first.
    free = [sample["free"] for sample in samples(log)]
    came_back = sum(a < 2.0 <= b for a, b in itertools.pairwise(free))
    assert came_back >= 3, free


def test_a_killed_tpe_sweep_goes_on_with_the_values_it_chose(run_workers: Start) -> None:
    search = {
        "algorithm": "tpe",
        "trials": 5,
        "metric": "h_r",
        "scheduler": {"name": "asha", "grace_epochs": 1, "reduction": 2},
        "points": [{"training.lr": 0.01}],
        "space": {"training.lr": {"log_uniform": [1e-5, 1e-1]}},
    }
    spec = tiny_spec(search=search, training={"epochs": 30})
    first = run_workers(spec)
    storage = Storage(first.storage)
    wait_for(storage.params(1).exists, seconds=200, what="values chosen for trial 1")
    wait_for(lambda: [n for n in range(5) if storage.result(n).exists()], seconds=200, what="a finished trial")
    first.process.kill()
    first.process.wait()
    chosen = {n: read_json(storage.params(n)) for n in range(5) if storage.params(n).exists()}
    finished = {n: storage.result(n).stat().st_mtime_ns for n in range(5) if storage.result(n).exists()}
    assert finished

    second = run_workers(spec)
    assert second.finish(200) == 0, second.output
    results = json.loads((second.storage / "results.json").read_text())["trials"]
    assert {trial["state"] for trial in results} <= {"succeeded", "stopped"}
    assert all(results[n]["params"] == params for n, params in chosen.items())
    assert all(storage.result(n).stat().st_mtime_ns == at for n, at in finished.items())
    assert len({trial["params"]["training.lr"] for trial in results}) == 5


def test_a_killed_population_goes_on_and_ends(run_workers: Start, service: FakeService) -> None:
    """More trials than fit at once take turns; poor ones learn from good ones; a kill ends none of that."""
    search = {
        "algorithm": "quasi_random",
        "trials": 4,
        "metric": "h_r",
        "scheduler": {"name": "pbt", "every_epochs": 2, "quantile": 0.5},
        "space": {"objective.weighting.alpha": {"uniform": [0.0, 1.0]}, "training.lr": {"log_uniform": [1e-4, 1e-1]}},
    }
    spec = tiny_spec(objective=FIXED, search=search, training={"epochs": 10})
    first = run_workers(spec)
    storage = Storage(first.storage)
    wait_for(lambda: any(storage.params(n).exists() for n in range(4)), seconds=200, what="an exchange")
    first.process.kill()
    first.process.wait()
    left = [n for n in range(4) if not storage.result(n).exists()]

    second = run_workers(spec, **service.environment())
    assert second.finish(250) == 0, second.output
    assert all(read_result(storage, n).epoch == 10 for n in range(4))  # type: ignore[union-attr]
    changed = {n: read_json(storage.params(n)) for n in range(4) if storage.params(n).exists()}
    assert changed
    for number, params in changed.items():
        assert read_result(storage, number).params == params  # type: ignore[union-attr]
        assert 0.0 <= params["objective.weighting.alpha"] <= 1.0
        if number in left:
            assert [params] == reported(service, number)[-1:]


def test_an_experiment_too_large_for_the_cluster_says_so_and_starts_when_a_node_joins(
    run_workers: Start, ray_head: RayHead, service: FakeService
) -> None:
    run = run_workers(tiny_spec(resources={"cpus_per_worker": 3}), **service.environment())
    (reason,) = wait_for(lambda: {w for w in waits(service) if w}, seconds=200, what="the reason")
    assert reason == (
        "waiting for nodes: one trial takes 1 x (3 CPUs, 0 GPUs); the nodes of the cluster have 2 CPUs and 0 GPUs"
    )
    assert reason.removeprefix("waiting for nodes: ") in run.output
    assert service.states(0)[-1] == "pending"
    with another_node(ray_head, cpus=4):
        assert run.finish(200) == 0, run.output
    assert waits(service)[-1] == ""
    assert "room for 1 trials at once now, before for 0" in run.output


def test_more_trials_run_at_once_when_a_node_joins_and_those_of_a_lost_node_go_on(
    run_workers: Start, ray_head: RayHead
) -> None:
    epochs = [100, 101, 30, 31, 32]  # the first two go on until the other node is there
    space = {"training.epochs": {"choice": epochs}}
    run = run_workers(tiny_spec(search={"algorithm": "grid", "space": space}))
    storage = Storage(run.storage)
    wait_for(lambda: started(storage) == 2, seconds=200, what="two trials")
    with another_node(ray_head, cpus=2):
        wait_for(lambda: started(storage) >= 4, seconds=200, what="four trials at once")
        assert not storage.results.exists()
        assert sum(storage.result(n).exists() for n in range(5)) <= 1
    assert run.finish(300) == 0, run.output
    results = json.loads((run.storage / "results.json").read_text())["trials"]
    assert [(trial["state"], trial["epoch"]) for trial in results] == [("succeeded", n) for n in epochs]


def test_a_population_takes_turns_on_nodes_that_share_no_folder(
    run_workers: Start, ray_head: RayHead, s3: S3, tmp_path: Path
) -> None:
    """Only the object store is shared. In it the run leaves its logs, and of the checkpoints the best one's."""
    search = {
        "algorithm": "quasi_random",
        "trials": 4,
        "metric": "h_r",
        "scheduler": {"name": "pbt", "every_epochs": 1, "quantile": 0.5},
        "space": {"training.lr": {"log_uniform": [1e-4, 1e-1]}},
    }
    place = f"s3://id:secret@bucket/{tmp_path.name}?endpoint_override={s3.address}&scheme=http&region=us-east-1"
    (tmp_path / "node").mkdir()
    node = ray_head.add_node(TMPDIR=str(tmp_path / "node"))
    try:
        run = run_workers(tiny_spec(search=search, training={"epochs": 4}), storage=place)
        wait_for(
            lambda: list(tmp_path.glob("node/adadim-*/*/points/*")), seconds=200, what="a trial on the second node"
        )
        assert run.finish(200) == 0, run.output
    finally:
        node.kill()
    assert "process was lost" not in run.output
    storage = open_storage(place)
    assert storage.fetch(storage.results)
    results = json.loads(storage.results.read_text())
    assert [(trial["state"], trial["epoch"]) for trial in results["trials"]] == [("succeeded", 4)] * 4
    assert storage.checkpointed() == {results["best"]}
    assert "secret" not in results["best_checkpoint"]
    for number in range(4):
        log = storage.trial_log(number)
        storage.take_up_log(log)
        assert "epoch 4/4" in log.read_text()
    storage.take_up_log(storage.driver_log("local"))
    assert "checkpoint kept: trial" in storage.driver_log("local").read_text()


def samples(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def waits(service: FakeService) -> list[str]:
    return [report["waiting"] for report in list(service.accepted) if report.get("waiting") is not None]


def reported(service: FakeService, trial: int) -> list[dict[str, Any]]:
    updates = [update for report in list(service.accepted) for update in report["trials"]]
    return [update["params"] for update in updates if update["number"] == trial and update["params"] is not None]


def started(storage: Storage) -> int:
    return len({file.name.partition("-")[0] for file in storage.points.glob("*.jsonl")})


@contextlib.contextmanager
def another_node(head: RayHead, cpus: int) -> Iterator[None]:
    """A second node of the head's cluster, gone at the end as a lost machine is: its processes are killed."""
    folder = tempfile.mkdtemp(prefix="node-", dir="/tmp")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--address=127.0.0.1:{head.port}"]
    node = subprocess.Popen(
        [*command, f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"],
        env={k: v for k, v in head.environment().items() if k != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        node.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
