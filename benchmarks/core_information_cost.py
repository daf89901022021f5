"""What the logged information quantities cost: H(R), I(R;Z), effective ranks, uniformity and alignment of a batch.

    .venv/bin/python benchmarks/core_information_cost.py [--pairs 30] [--device cuda]

Two trainers of the same network take turns, one that logs every step and one that never does. Machines are noisy, so
each pair of turns gives one ratio, and the median of the ratios counts. ResNet-18 of width 16, projector
128-2048-2048, batch 256, generated 32x32 images.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from core_images import data_section, throughput_spec
from machine import describe

from adadim_core import Trainer
from adadim_core.spec import validate_spec

DEFAULT_CADENCE = 10
NEVER = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30, help="pairs of turns that count")
    parser.add_argument("--steps", type=int, help="steps a turn; default 1 on a CPU, 20 on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    print(describe("torch"))
    if arguments.device == "cuda":
        print(torch.cuda.get_device_name())
    steps = arguments.steps or (1 if arguments.device == "cpu" else 20)
    with tempfile.TemporaryDirectory() as folder:
        document = throughput_spec(data_section(None, Path(folder)))
        cost, step_s = information_cost(document, device=arguments.device, pairs=arguments.pairs, steps=steps)
    print(f"a step without them: {1000 * step_s:.1f} ms")
    print(f"at every step: {cost:.2%} of step time (wanted: at most 5%)")
    print(f"every {DEFAULT_CADENCE} steps, the default: {cost / DEFAULT_CADENCE:.2%} (wanted: at most 1%)")


def information_cost(document: dict[str, Any], *, device: str, pairs: int, steps: int) -> tuple[float, float]:
    """Share that logging adds to a step when every step is logged, and the seconds of a step without."""

    def trainer(log_every_steps: int) -> Trainer:
        training = {**document["training"], "log_every_steps": log_every_steps}
        made = Trainer(validate_spec({**document, "training": training}), device=device)
        for _ in range(3):
            _turn(made, steps)
        return made

    logging, silent = trainer(1), trainer(NEVER)
    ratios, without = [], []
    for pair in range(pairs):
        # Whoever goes second may find warmer caches or a busier machine: both go second equally often.
        if pair % 2:
            logged, unlogged = _turn(logging, steps), _turn(silent, steps)
        else:
            unlogged, logged = _turn(silent, steps), _turn(logging, steps)
        ratios.append(logged / unlogged)
        without.append(unlogged / steps)
    return statistics.median(ratios) - 1, statistics.median(without)


def _turn(trainer: Trainer, steps: int) -> float:
    """Seconds of some steps, all within an epoch: its end would be logged and evaluated."""
    left = trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch
    if left <= steps:
        trainer.train_steps(left + 1)
    _wait(trainer)
    began = time.perf_counter()
    trainer.train_steps(steps)
    _wait(trainer)
    return time.perf_counter() - began


def _wait(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)


if __name__ == "__main__":
    main()
