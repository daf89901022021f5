"""Everything that needs a GPU, in one command: is it right there, how fast is it, what does the method give?

    .venv/bin/python benchmarks/gpu_suite.py [--out benchmarks/results/gpu.json] [--budget 570] [--data PATH]
    .venv/bin/python benchmarks/gpu_suite.py --smoke     the same on a CPU with tiny settings: does everything run?

The parts (benchmarks/gpu/) come in order of worth, each in a process of its own under a time limit; one that fails or
hangs is ended and the next begins. All figures go into one JSON file as they are measured, with the card, its driver
and the versions, and the last lines of a part that failed; whole logs lie beside it in OUT.logs/. `gpu_report.py`
makes tables of it. Nothing of the card's settings is changed. `benchmarks/study.py data ARCHIVE`, called before, writes
the images of the study's sweeps.

Owns the order, the limits and the file. What is measured and how is the parts' own.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from gpu.processes import end
from gpu.settings import Record, Settings, prepare_images
from machine import describe

_BENCHMARKS = Path(__file__).resolve().parent
_GRACE_SECONDS = 8.0
"""A part is told to take this much less than it is given, so that its last figures are written."""
_LAST_LINES, _LINE = 40, 200


@dataclass(frozen=True)
class Part:
    """One part of the suite."""

    module: str
    share: float
    """Of the budget: its time limit. What it leaves is for those after it; the last part chosen gets all that is
    left."""
    beside: bool = False
    """It measures no time, and runs at the same time as the one before it."""


# On an H100: core 62 s, product 180 beside it, throughput 145, lightly 35, information 22, packing over 115, reading
# images 19. Packing has been measured; it takes what the parts before it leave. Sweeps have something to do only where
# results of the study are missing: give them and the full-width study a run of their own (--parts, --budget).
PARTS = {
    "core": Part("gpu.core_tests", 0.15),
    "product": Part("gpu.product", 0.33, beside=True),
    "throughput": Part("gpu.throughput", 0.27),
    "lightly": Part("gpu.lightly_step", 0.1),
    "information": Part("gpu.information", 0.06),
    "sweeps": Part("gpu.sweeps", 0.05),
    "study": Part("gpu.study", 0.13),
    "packing": Part("gpu.packing", 1.0),
}


def main() -> None:
    arguments = _arguments()
    if arguments.part:
        _run_part(arguments)
        return
    device = arguments.device or ("cpu" if arguments.smoke else "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here: torch.cuda.is_available() is false. --smoke checks the suite on a CPU.")
    chosen = arguments.parts.split(",") if arguments.parts else list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        raise SystemExit(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, and the file is whole
    Suite(arguments, device, chosen).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"), help="file of the results")
    parser.add_argument("--parts", help=f"of {','.join(PARTS)}; default: all")
    parser.add_argument("--budget", type=float, default=570.0, help="seconds for everything")
    parser.add_argument("--data", help="image folder or archive, CIFAR-10 archive, or .npz; default: generated images")
    parser.add_argument("--smoke", action="store_true", help="tiny settings, on the CPU unless --device says otherwise")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda, in a smoke run cpu")
    for hidden in ("--part", "--part-out", "--work", "--seconds"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser.parse_args()


class Suite:
    """One run of the suite."""

    least_seconds = 15.0
    """With less than this left, a part is not begun."""

    def __init__(self, arguments: argparse.Namespace, device: str, chosen: list[str]) -> None:
        self._out: Path = arguments.out.resolve()
        self._logs = self._out.with_suffix(".logs")
        self._logs.mkdir(parents=True, exist_ok=True)
        self._data: str | None = arguments.data
        self._smoke: bool = arguments.smoke
        self._device = device
        self._chosen = chosen
        self._budget: float = arguments.budget
        self._began = time.monotonic()
        self._results: dict[str, Any] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["benchmarks/gpu_suite.py", *sys.argv[1:]]),
            "smoke": self._smoke,
            "machine": describe("torch", "torchvision", "triton", "ray", "lightly", "numpy"),
            **_card(device),
            "parts": {},
        }

    def run(self) -> None:
        """All parts that were chosen; ends with exit code 1 where one failed."""
        with tempfile.TemporaryDirectory(prefix="adadim-gpu-") as folder:
            self._work = Path(folder)
            self._results["images"] = prepare_images(self._work / "images.npz", self._data, smoke=self._smoke)
            self._write()
            print(f"{self._results['machine']}\n{self._results['card']}\n{self._results['images']}", flush=True)
            waiting = list(self._chosen)
            while waiting:
                together = [waiting.pop(0)]
                while waiting and PARTS[waiting[0]].beside and self._device == "cuda":
                    together.append(waiting.pop(0))
                self._run_together(together)
        self._results["seconds"] = time.monotonic() - self._began
        self._write()
        self._print_table()
        if any(part["status"] not in ("ok", "skipped") for part in self._results["parts"].values()):
            raise SystemExit(1)

    def _run_together(self, names: list[str]) -> None:
        running = {}
        for name in names:
            left = self._budget - (time.monotonic() - self._began)
            share = PARTS[name].share * (2 if self._smoke else 1)  # as long to start, and less to leave for others
            limit = left if name == self._chosen[-1] else min(left, share * self._budget)
            if limit < self.least_seconds:
                self._results["parts"][name] = {"status": "skipped", "reason": f"{max(left, 0):.0f} s were left"}
                continue
            running[name] = PartProcess(self, name, limit)
        try:
            while running:
                for name, part in list(running.items()):
                    done = part.look()
                    self._results["parts"][name] = part.entry
                    if done:
                        del running[name]
                        print(f"== {name}: {part.entry['status']} in {part.entry['seconds']:.0f} s", flush=True)
                self._write()
                time.sleep(0.2)  # between two looks at other processes
        finally:
            for part in running.values():
                part.end()

    def command(self, name: str, limit: float) -> list[str]:
        """What runs a part."""
        smoke = ["--smoke"] if self._smoke else []
        given = {
            "--part": name,
            "--part-out": str(self.part_file(name)),
            "--work": str(self._work),
            "--seconds": str(limit - _GRACE_SECONDS),
            "--device": self._device,
        }
        options = [word for pair in given.items() for word in pair]
        return [sys.executable, str(Path(__file__).resolve()), *smoke, *options]

    @property
    def environment(self) -> dict[str, str]:
        """Networks as small as those of a smoke run only lose by more threads."""
        return {"OMP_NUM_THREADS": "1"} if self._smoke else {}

    def part_file(self, name: str) -> Path:
        return self._work / f"{name}.json"

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.txt"

    def _write(self) -> None:
        partial = self._out.with_suffix(".partial")
        partial.write_text(json.dumps(self._results, indent=1) + "\n")
        partial.replace(self._out)

    def _print_table(self) -> None:
        print(f"\n{self._results['seconds']:.0f} s in all, figures in {self._out}")
        for name, part in self._results["parts"].items():
            print(f"  {name:12} {part['status']:10} {part.get('seconds', 0):5.0f} s  {part.get('reason', '')}")


class PartProcess:
    """A part that runs."""

    def __init__(self, suite: Suite, name: str, limit: float) -> None:
        self._log = suite.log(name)
        self._file = suite.part_file(name)
        self._limit = limit
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                suite.command(name, limit),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=_BENCHMARKS.parent,
                env=os.environ | suite.environment,
            )
        self.entry: dict[str, Any] = {}
        self.look()

    def look(self) -> bool:
        """Bring the entry up to date and end what is over its limit. Returns whether the part is over."""
        code = self._process.poll()
        seconds = time.monotonic() - self._began
        status = "running" if code is None else "ok" if code == 0 else "failed"
        if code is None and seconds > self._limit:
            status = "timed out"
            self.end()
        self.entry = {"status": status, "seconds": round(seconds, 1), "results": self._figures()}
        if status in ("failed", "timed out"):
            lines = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            self.entry["log"] = [line[:_LINE] for line in lines]
        return status != "running"

    def end(self) -> None:
        """End it and everything it started, at once."""
        end(self._process)

    def _figures(self) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self._file.read_text())
        return {}


def _run_part(arguments: argparse.Namespace) -> None:
    """In the part's own process."""
    work = Path(arguments.work, arguments.part)
    work.mkdir()
    settings = Settings(
        device=arguments.device,
        smoke=arguments.smoke,
        seconds=float(arguments.seconds),
        work=work,
        images=Path(arguments.work, "images.npz"),
    )
    importlib.import_module(PARTS[arguments.part].module).run(settings, Record(Path(arguments.part_out)))


def _card(device: str) -> dict[str, str]:
    if device == "cpu":
        return {"card": "no card: a smoke run on a CPU"}
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError):
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()
    return {
        "card": f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        "driver": driver[0] if driver else "unknown",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


if __name__ == "__main__":
    main()
