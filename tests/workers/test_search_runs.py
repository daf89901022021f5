"""Sweeps with searchers and schedulers on a real Ray cluster, killed in between."""

import json
from collections.abc import Callable

import pytest
from worker_harness import WorkerRun, tiny_spec, wait_for

from workers.storage import Storage, read_json

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

Start = Callable[..., WorkerRun]


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
    wait_for(storage.params(1).exists, seconds=90, what="values chosen for trial 1")
    wait_for(lambda: [n for n in range(5) if storage.result(n).exists()], seconds=90, what="a finished trial")
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
