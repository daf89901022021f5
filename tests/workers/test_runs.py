"""Whole runs of `python -m workers` on a real Ray cluster, with real training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from worker_harness import CODE, FakeService, RayHead, WorkerRun, spooled_steps, tiny_spec, wait_for

from adadim_core.spec import validate_spec
from adadim_core.spec.attempt_proof import proof
from adadim_core.spec.packing import packed
from adadim_core.trainer import Trainer
from workers.storage.folder import Storage

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

Start = Callable[..., WorkerRun]

WEIGHTINGS = [
    {"policy": "adaptive"},
    {"policy": "fixed", "alpha": 0.0},
    {"policy": "fixed", "alpha": 0.5},
    {"policy": "linear"},
]


def grid(**space: list[Any]) -> dict[str, Any]:
    return {
        "algorithm": "grid",
        "space": {path.replace("__", "."): {"choice": values} for path, values in space.items()},
    }


def results_of(run: WorkerRun) -> dict[str, Any]:
    document = json.loads((run.storage / "results.json").read_text())
    assert isinstance(document, dict)
    return document


def test_a_sweep_without_a_service_prints_the_table_and_writes_results(run_workers: Start) -> None:
    run = run_workers(tiny_spec(search=grid(objective__weighting=WEIGHTINGS)))
    assert run.finish() == 0, run.output

    results = results_of(run)
    assert [trial["number"] for trial in results["trials"]] == [0, 1, 2, 3]
    assert {trial["state"] for trial in results["trials"]} == {"succeeded"}
    assert [trial["label"] for trial in results["trials"]] == [*("adaptive", "fixed 0", "fixed 0.5", "linear 0 to 1")]
    best = max(results["trials"], key=lambda trial: trial["metrics"]["knn_top1"])
    assert results["trials"][results["best"]]["metrics"]["knn_top1"] == best["metrics"]["knn_top1"]
    for number in range(4):
        assert (run.storage / "trials" / f"{number:04d}" / "encoder.safetensors").exists()
        assert spooled_steps(run.storage, number) == [[0, 2, 4, 5, 5, 6, 8, 10, 10]]
    table = run.output[run.output.index(" weighting ") :]
    assert [word in table for word in ("adaptive", "fixed 0.5", "linear 0 to 1")] == [True] * 3


def test_two_workers_train_as_one(run_workers: Start, service: FakeService) -> None:
    """A DDP run reports the metrics that one process computes for the same global batch.

    In float32: in bfloat16, which `auto` picks where the processor has it, a sum rounded in another order moves an
    activation by a whole bfloat16 step of 4e-3 of its value, in either arrangement.
    """
    document = tiny_spec(training={"epochs": 1, "precision": "float32"})
    run = run_workers(document | {"resources": {"workers": 2}}, **service.environment())
    assert run.finish(200) == 0, run.output
    (trial,) = results_of(run)["trials"]
    alone = Trainer(validate_spec(document)).fit()
    measured = trial["metrics"].keys() - {"images_per_s"}
    assert measured > {"loss", "h_r", "i_rz", "erank_z", "alignment", "alpha", "knn_top1"}
    for name in measured:
        assert trial["metrics"][name] == pytest.approx(alone[name], abs=1e-4), name
    assert service.points()[-1][1] == trial["metrics"]["h_r"]
    assert service.states(0)[-1] == "succeeded"


@pytest.mark.slow  # takes time in seconds: where it runs, nothing else does
def test_an_interrupted_run_ends_within_seconds(run_workers: Start, service: FakeService) -> None:
    took: list[float] = []
    while len(took) < 3:  # the quickest counts: this machine may be held up
        known = len(service.points())
        run = run_workers(tiny_spec(training={"epochs": 5_000}), storage=f"run-{len(took)}", **service.environment())
        wait_for(lambda known=known: len(service.points()) > known, seconds=120, what="the first point")
        began = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        wait_for(lambda: len(service.outcomes()) > len(took), what="the outcome")
        took.append(time.monotonic() - began)
        assert run.finish(60) == 143, run.output
        if took[-1] < 3.0:
            break
    assert took[-1] < 3.0, f"{took}: SIGKILL follows a Ray job's SIGTERM after 3 s"
    assert service.outcomes() == [{"state": "interrupted", "error": "received SIGTERM"}] * len(took)
    assert service.states(0)[-1] == "interrupted"
    assert results_of(run)["trials"][0]["state"] == "interrupted"
    assert "Traceback" not in run.output
    # It was saved as it was: the next attempt measures nothing again.
    saved = torch.load(Storage(run.storage).checkpoint(0), weights_only=True)
    assert saved["step"] >= max(step for step, _ in service.points()[known:])


@pytest.mark.slow
def test_a_signal_while_ray_is_joined_is_an_interruption(run_workers: Start, service: FakeService) -> None:
    run = run_workers(tiny_spec(), **service.environment())
    maps = Path(f"/proc/{run.process.pid}/maps")
    wait_for(lambda: "_raylet" in maps.read_text(), seconds=60, what="Ray being imported, and joined next")
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(60) == 143, run.output
    assert service.outcomes() == [{"state": "interrupted", "error": "received SIGTERM"}]


@pytest.mark.slow
def test_a_superseded_run_ends_within_seconds(run_workers: Start, service: FakeService) -> None:
    run = run_workers(tiny_spec(training={"epochs": 5_000}), **service.environment())
    wait_for(service.points, seconds=120, what="the first point")
    service.answer = lambda report, size: (409, {}, b"{}")
    began = time.monotonic()
    assert run.finish(60) == 143, run.output
    assert time.monotonic() - began < 15.0
    assert "this attempt was superseded" in run.output
    assert not service.outcomes(), "it has no say any more"


@pytest.mark.slow
def test_the_job_that_the_service_submits(ray_head: RayHead, service: FakeService, tmp_path: Path) -> None:
    """Through Ray's Jobs REST API, spec in the environment: states, points and outcome reach the service.

    Two of its trials raise: those are failed trials with their messages, not a failed sweep.
    """
    missing = {"data": {"dataset": "npz", "path": "/nowhere/set.npz"}, "training.lr": 0.001}
    diverging = {"data": {"dataset": "digits"}, "training.lr": 100.0}
    points = [{"data": {"dataset": "digits"}, "training.lr": lr} for lr in (0.001, 0.002)]
    spec = tiny_spec(
        training={"optimizer": "sgd"},
        resources={"max_failures": 1},
        search={
            "algorithm": "random",
            "trials": 4,
            "points": [points[0], missing, points[1], diverging],
            "space": {
                "data": {"choice": [{"dataset": "digits"}, missing["data"]]},
                "training.lr": {"uniform": [0.001, 100]},
            },
        },
    )
    variables = {"ADADIM_SPEC": packed(json.dumps(spec)), "ADADIM_RUN_STORAGE": str(tmp_path / "storage")}
    job = submit(ray_head, "python -m workers env:ADADIM_SPEC", service.environment() | variables)
    assert job_end(ray_head, job) == "SUCCEEDED", job_logs(ray_head, job)

    assert [service.states(n)[-1] for n in range(4)] == ["succeeded", "failed", "succeeded", "failed"]
    errors = {t["number"]: t["error"] for report in service.accepted for t in report["trials"] if t["error"]}
    assert "/nowhere/set.npz" in errors[1].splitlines()[0]
    assert "resumes from its last checkpoint" not in errors[1], "data is not there the second time either"
    assert not any("Traceback" in error for error in errors.values()), "what people can mend is told in a line"
    assert errors[3].startswith("Diverged: the loss is nan at step ")
    assert service.points(3, "loss")[-1][1] == "NaN"
    arrived = dict.fromkeys(step for step, _ in service.points(trial=0))  # a delivery may repeat, order stays
    assert list(arrived) == [0, 2, 4, 5, 6, 8, 10]
    assert dict(service.points(2, "knn_top1")).keys() == {5, 10}
    assert service.outcomes() == [{"state": "succeeded", "error": None}]
    assert service.accepted[-1]["outcome"], "the outcome comes last"
    (used,) = service.tokens  # by the driver and all its trials
    (claim,) = service.claims
    assert claim["proof"] == proof(ray_head.token, "a1", CODE, claim["sha256"]), "drivers know the cluster's token"
    logs = job_logs(ray_head, job)
    assert claim["proof"] not in logs
    assert used.removeprefix("Bearer ") not in logs
    assert "trial 2  epoch 2/2  succeeded" in logs
    assert json.loads((tmp_path / "storage" / "results.json").read_text())["best"] in (0, 2)


def test_ray_job_submit_with_a_working_directory(ray_head: RayHead, tmp_path: Path) -> None:
    """What `ray job submit --working-dir . -- python -m workers SPEC` does: the code travels with the job."""
    root = Path(__file__).parents[2]
    for package in ("adadim_core", "workers"):
        shutil.copytree(root / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code" / "spec.yaml").write_text(json.dumps(tiny_spec()))
    storage = tmp_path / "storage"
    ray_command = Path(sys.executable).with_name("ray")
    command = [ray_command, "job", "submit", "--working-dir", ".", "--", "python", "-m", "workers", "spec.yaml"]
    environment = ray_head.environment() | {"RAY_ADDRESS": ray_head.jobs_url}
    finished = subprocess.run(
        [*command, "--storage", str(storage)],
        cwd=tmp_path / "code",
        env=environment | {"PATH": f"{ray_command.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "checkpoint kept: trial 0" in finished.stdout
    assert (storage / "results.json").exists()


def submit(head: RayHead, entrypoint: str, variables: dict[str, str]) -> str:
    body = {"entrypoint": entrypoint, "runtime_env": {"env_vars": variables}}
    answer = rest(head, "/api/jobs/", body)
    return str(answer["submission_id"])


def job_end(head: RayHead, job: str) -> str:
    ended = ("SUCCEEDED", "FAILED", "STOPPED")
    return str(wait_for(lambda: (s := rest(head, f"/api/jobs/{job}")["status"]) in ended and s, seconds=200))


def job_logs(head: RayHead, job: str) -> str:
    return str(rest(head, f"/api/jobs/{job}/logs")["logs"])


def rest(head: RayHead, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        head.jobs_url + path,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {head.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        document = json.load(response)
    assert isinstance(document, dict)
    return document
