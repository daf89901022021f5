"""What a trial costs beside its training: this project against Ray's documented recipe, on one cluster in one run.

    .venv/bin/python benchmarks/sweep_overhead.py [--trials 20] [--recipe-trials 20] [--epochs 3]

Both run the same trials of a trivially small model, two at a time, on a local Ray head started beforehand:
(a) `python -m workers`, all of it, from process start to exit; (b) Ray's recipe, a TorchTrainer with one worker in
each Tune trial, around the very same training. The training itself is timed in two plain processes without Ray,
started and warmed up beforehand, and taken off both.
"""

import argparse
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import describe

from service.cluster.ports import free_ports

AT_ONCE = 2


SPACE = {"training.lr": {"log_uniform": [1e-4, 1e-2]}}


def spec(trials: int, epochs: int) -> dict[str, Any]:
    """A sweep of the learning rate of a network with a few thousand weights, on digits."""
    return {
        "name": "overhead",
        "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 2, "hidden": 16, "out": 16}},
        "training": {"epochs": epochs, "warmup_epochs": 0, "optimizer": "adamw", "lr": 1e-3, "log_every_steps": 5},
        "resources": {"max_concurrent_trials": AT_ONCE},
        "search": {"algorithm": "quasi_random", "trials": trials, "space": SPACE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="trials of this project's sweep")
    parser.add_argument("--recipe-trials", type=int, default=20, help="trials of the recipe's sweep; 0: leave it out")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--part", choices=["training", "recipe"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "training":
        train_plainly(options.trials, options.epochs)
    elif options.part == "recipe":
        run_recipe(options.trials, options.epochs)
    else:
        compare(options.trials, options.recipe_trials, options.epochs)


def compare(trials: int, recipe_trials: int, epochs: int) -> None:
    print(describe("ray", "torch"), flush=True)
    with tempfile.TemporaryDirectory(prefix="adb-", dir="/tmp") as folder, ray_head(folder) as environment:
        training = time_training(trials, epochs)
        print(f"training itself, two processes, no Ray: {training:.2f} s a trial", flush=True)
        file = Path(folder, "spec.json")
        file.write_text(json.dumps(spec(trials, epochs)))
        workers = [sys.executable, "-m", "workers", str(file), "--storage"]
        run([*workers, f"{folder}/warm-up"], environment)  # file caches and Ray's pool of processes
        own = run([*workers, f"{folder}/own"], environment) / trials
        print(f"(a) python -m workers: {own:.2f} s a trial, {own - training:.2f} s over the training (wanted: 0.7)")
        show_parts(Path(folder, "own"), trials)
        if not recipe_trials:
            return
        part = ["--part", "recipe", "--trials", str(recipe_trials), "--epochs", str(epochs)]
        recipe = run([sys.executable, __file__, *part], environment) / recipe_trials
        print(f"(b) TorchTrainer in each trial: {recipe:.2f} s a trial, {recipe - training:.2f} s over the training")
        print(f"ratio of what is over the training: {(recipe - training) / max(own - training, 1e-9):.0f} (wanted: 20)")
        print(f"ratio of the whole: {recipe / own:.0f}")


def show_parts(storage: Path, trials: int) -> None:
    """Where the sweep's time went, from its files: until the first point, between trials, after the last."""
    times: dict[int, list[float]] = {}
    for file in storage.joinpath("points").glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        times[lines[0]["trial"]] = [line["time"] for line in lines]
    first, last = min(t[0] for t in times.values()), max(t[-1] for t in times.values())
    began = storage.joinpath("spec.json").stat().st_mtime
    ended = storage.joinpath("results.json").stat().st_mtime
    print(
        f"    until the first point {first - began:.1f} s, first to last {last - first:.1f} s "
        f"({(last - first) / trials:.2f} s a trial), from there to the table {ended - last:.1f} s",
        flush=True,
    )


def time_training(trials: int, epochs: int) -> float:
    """Seconds a trial, two processes sharing the trials."""
    command = [sys.executable, __file__, "--part", "training", "--trials", str(trials // AT_ONCE)]
    processes = [
        subprocess.Popen([*command, "--epochs", str(epochs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(AT_ONCE)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in processes:
        process.communicate("go\n")
    return (time.perf_counter() - began) / trials


def train_plainly(trials: int, epochs: int) -> None:
    import torch

    from adadim_core.spec import plan_trials, validate_spec
    from adadim_core.trainer import Trainer

    torch.set_num_threads(1)
    experiment = validate_spec(spec(max(trials, 1), epochs))
    plans = plan_trials(experiment)
    Trainer(experiment.with_params(plans[0].params)).train_epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    for plan in plans:
        Trainer(experiment.with_params(plan.params)).fit()


def run_recipe(trials: int, epochs: int) -> None:
    """https://docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html"""
    import ray
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from adadim_core.spec import plan_trials, validate_spec

    ray.init(logging_level="ERROR", log_to_driver=False)
    experiment = validate_spec(spec(trials, epochs))
    plans = {plan.number: plan.params for plan in plan_trials(experiment)}
    folder = tempfile.mkdtemp(prefix="adadim-recipe-", dir="/tmp")

    def train_loop(config: dict[str, Any]) -> None:
        import torch

        from adadim_core.trainer import Trainer

        torch.set_num_threads(1)
        trainer = Trainer(config["spec"])
        while not trainer.done:
            ray.train.report(trainer.train_epoch())

    def trial(config: dict[str, Any]) -> None:
        TorchTrainer(
            train_loop,
            train_loop_config={"spec": experiment.with_params(plans[config["number"]])},
            scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(
                name=f"recipe-{config['number']}", storage_path=folder, callbacks=[TuneReportCallback()]
            ),
        ).fit()

    tune.Tuner(
        trial,
        param_space={"number": tune.grid_search(sorted(plans))},
        tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()


def run(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stdout[-3000:]}{finished.stderr[-3000:]}")
    return time.perf_counter() - began


@contextmanager
def ray_head(folder: str, cpus: int = 2 * AT_ONCE) -> Iterator[dict[str, str]]:
    """A head as `ray start` makes it, and the environment of those who use it.

    In the recipe a Tune trial takes a CPU beside that of its worker: hence two for each of the trials at once.
    """
    token = secrets.token_hex(16)
    port, *ports = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ADADIM_"))}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
    head = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--num-cpus={cpus}"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}/ray"),
            *(f"--dashboard-port={ports[0]}", f"--dashboard-agent-listen-port={ports[1]}"),
            *(f"--ray-client-server-port={ports[2]}", f"--metrics-export-port={ports[3]}"),
            *("--min-worker-port=0", "--max-worker-port=0"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{ports[0]}/api/jobs/", token):
            if time.monotonic() > deadline or head.poll() is not None:
                raise SystemExit("the Ray head did not start")
            time.sleep(0.2)
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}", "JOBS_ADDRESS": f"http://127.0.0.1:{ports[0]}"}
    finally:
        head.terminate()
        head.wait(60)


def answers(url: str, token: str) -> bool:
    """Whether Ray takes jobs: its port is open seconds before."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    main()
