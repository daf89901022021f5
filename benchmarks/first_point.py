"""Time from POST of a sweep to its first H(R) point readable through the API, on a warm local cluster.

    .venv/bin/python benchmarks/first_point.py [--runs 5]

Starts a service with an embedded PostgreSQL and a local Ray head in a temporary state directory. The first run
warms the cluster (file caches, Ray's worker pool) and is shown, but not counted.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

from adadim.client import Client, ClientError
from adadim.connection import open_client

SPEC = """
name: first-point
model: {backbone: conv_small, width: 16, projector: {layers: 2, hidden: 256, out: 256}}
training: {epochs: 5, warmup_epochs: 1, optimizer: adamw, lr: 1e-3}
search:
  algorithm: grid
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: adaptive}]}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs that count, after one that warms up")
    runs = parser.parse_args().runs
    print(describe("ray", "torch", "fastapi", "sqlalchemy"))
    with tempfile.TemporaryDirectory(prefix="adadim-bench-") as directory:
        os.environ |= {"ADADIM_STATE_DIR": directory, "ADADIM_PORT": "0"}
        with (Path(directory) / "service.log").open("wb") as log:
            service = subprocess.Popen([sys.executable, "-m", "service.cli.main", "serve"], stdout=log, stderr=log)
        try:
            with _connect(timeout_s=60) as client:
                timings = [_measure(client, "warm-up" if run == 0 else f"run {run}") for run in range(runs + 1)]
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
    counted = timings[1:]
    print(
        f"POST to first H(R) point: median {statistics.median(counted):.1f} s, "
        f"min {min(counted):.1f} s, max {max(counted):.1f} s (wanted: under 20 s)"
    )


def _measure(client: Client, label: str) -> float:
    started = time.perf_counter()
    experiment_id = client.submit(SPEC)["id"]
    posted = time.perf_counter() - started
    states: dict[str, float] = {}
    for event in client.events(experiment_id):
        if event.kind == "experiment":
            states.setdefault(event.data["state"], time.perf_counter() - started)
        if event.kind == "points" and client.metrics(experiment_id, ["h_r"])["series"]:
            break
    first_point = time.perf_counter() - started
    parts = ", ".join(f"{state} {seconds:.2f} s" for state, seconds in states.items())
    print(f"{label}: answered {posted:.3f} s, {parts}, first H(R) {first_point:.2f} s")
    for event in client.events(experiment_id):
        if event.kind == "experiment" and event.data["state"] in ("succeeded", "failed"):
            return first_point
    raise AssertionError("the stream ended before the experiment")


def _connect(timeout_s: float) -> Client:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            client = open_client()
        except ClientError:
            client = None
        if client is not None and client.is_ready():
            return client
        time.sleep(0.1)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    main()
