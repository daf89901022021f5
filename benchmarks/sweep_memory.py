"""Memory of the driver and of the trial processes over a long sweep: does anything grow with the number of trials?

    .venv/bin/python benchmarks/sweep_memory.py [--trials 200]

Runs `python -m workers` on a local Ray cluster with a trivially small model, two trials at a time, and reads the
resident memory of its processes after every trial. Growth is the slope of a line fitted to the second half, so that
start-up (imports, data, first allocations) is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from machine import describe

MB = 1024 * 1024
BOUND_MB = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    print(describe("ray", "torch"))
    with tempfile.TemporaryDirectory(prefix="adadim-bench-") as directory:
        samples = watch(Path(directory), trials)
    if len(samples) < 2:
        sys.exit("no trial process was seen")
    worst = 0.0
    for name, found in sorted(samples.items()):
        done, memory = np.array(found).T
        half = done >= done.max() / 2
        growth = float(np.polyfit(done[half], memory[half], 1)[0]) if half.sum() > 2 else float("nan")
        worst = max(worst, growth)
        print(f"{name:<24} first {memory[0]:7.1f} MB  last {memory[-1]:7.1f} MB  growth {growth:+.3f} MB per trial")
    print(f"largest growth {worst:+.3f} MB per trial, wanted: at most {BOUND_MB:g}")
    sys.exit(worst > BOUND_MB)


def watch(folder: Path, trials: int) -> dict[str, list[tuple[int, float]]]:
    """Run the sweep. Returns (trials done, MB) by process."""
    spec = {
        "name": "memory",
        "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 2, "hidden": 16, "out": 16}},
        "training": {"epochs": 1, "warmup_epochs": 0, "optimizer": "adamw"},
        "search": {"algorithm": "random", "trials": trials, "space": {"training.lr": {"log_uniform": [1e-4, 1e-2]}}},
        "resources": {"max_concurrent_trials": 2},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "workers", str(folder / "spec.json"), "--storage", str(folder / "results")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "ADADIM_"))}
    samples: dict[str, list[tuple[int, float]]] = {}
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        seen = 0
        while run.poll() is None:
            done = len(list((folder / "results").glob("trials/*/result.json")))
            if done > seen:
                seen = done
                for name, memory in memory_of(run.pid).items():
                    samples.setdefault(name, []).append((done, memory))
            time.sleep(0.05)
    if run.returncode:
        sys.exit((folder / "log").read_text())
    return samples


def memory_of(pid: int) -> dict[str, float]:
    """Resident memory in MB of the driver and of every trial process."""
    driver = psutil.Process(pid)
    found = {"driver": driver.memory_info().rss / MB}
    for process in driver.children(recursive=True):
        try:
            if "Trainable." in " ".join(process.cmdline()):  # Tune's name for what it gives resources
                found[f"trial process {process.pid}"] = process.memory_info().rss / MB
        except psutil.Error:
            continue
    return found


if __name__ == "__main__":
    main()
