"""Time from `ray job submit` to the first H(R) on a warm cluster of two CPUs, with its parts. No service.

    .venv/bin/python benchmarks/first_point_job.py [--runs 5]

The first run warms the cluster and is shown, but not counted. The parts come from the files a run leaves: when they
were made, and the times of the points in them.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe
from sweep_overhead import ray_head, spec

PARTS = ("job start", "imports and joining Ray", "actor start", "torch, data and networks", "first epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs that count, after one that warms up")
    runs = parser.parse_args().runs
    print(describe("ray", "torch"))
    with tempfile.TemporaryDirectory(prefix="adb-", dir="/tmp") as folder, ray_head(folder, cpus=2) as environment:
        Path(folder, "spec.json").write_text(json.dumps(spec(trials=2, epochs=2)))
        measured = [measure(Path(folder), run, environment) for run in range(runs + 1)]
    firsts = [sum(parts[:-1]) for parts in measured[1:]]
    for k, part in enumerate(PARTS):
        print(f"{part}: median {statistics.median(parts[k] for parts in measured[1:]):.2f} s")
    print(
        f"ray job submit to first H(R): median {statistics.median(firsts):.1f} s, "
        f"min {min(firsts):.1f} s, max {max(firsts):.1f} s (wanted: 10 s)"
    )


def measure(folder: Path, run: int, environment: dict[str, str]) -> list[float]:
    """Seconds of each part."""
    storage = folder / f"run-{run}"
    command = [sys.executable, "-m", "workers", str(folder / "spec.json"), "--storage", str(storage)]
    submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--", *command]
    began = time.time()
    finished = subprocess.run(
        submit,
        env=environment | {"RAY_ADDRESS": environment["JOBS_ADDRESS"]},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(finished.stdout[-3000:] + finished.stderr[-3000:])
    spools = sorted(storage.joinpath("points").glob("*.jsonl"))
    points = [json.loads(line) for file in spools for line in file.read_text().splitlines()]
    marks = [
        began,
        made(storage / "spec.json"),
        made(storage / "tune"),
        min(made(file) for file in spools),
        min(point["time"] for point in points if "h_r" in point["values"]),
        min(point["time"] for point in points if point["epoch"] == 1.0),
    ]
    parts = [after - before for before, after in itertools.pairwise(marks)]
    shown = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in zip(PARTS, parts, strict=True))
    print(f"{'warm-up' if run == 0 else f'run {run}'}: first H(R) after {sum(parts[:-1]):.2f} s: {shown}", flush=True)
    return parts


def made(path: Path) -> float:
    """When a file or folder was made, where the file system knows, else when it was changed last."""
    born = float(subprocess.run(["stat", "-c", "%.W", str(path)], capture_output=True, text=True, check=True).stdout)
    return born or path.stat().st_mtime


if __name__ == "__main__":
    main()
