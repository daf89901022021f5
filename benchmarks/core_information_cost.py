"""What the logged information quantities cost: H(R), I(R;Z), effective ranks, uniformity and alignment of a batch.

    .venv/bin/python benchmarks/core_information_cost.py [--pairs 30] [--device cuda]

Two trainers of the same network take turns, one that logs every step (or every tenth, in turns of ten steps) and one
that never does. Machines are noisy, so each pair of turns gives one ratio, and the median of the ratios counts; on a
CPU, time is the process's own, which what else runs there changes little. Then the measurement before an epoch that
adaptive weighting rests on, of single batches and of pooled rows. ResNet-18 of width 16, projector 128-2048-2048,
batch 256, generated 32x32 images.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from core_images import data_section, throughput_spec
from machine import describe

from adadim_core import Trainer
from adadim_core.spec import validate_spec
from adadim_core.spec.weightings import AdaptiveWeighting
from adadim_core.weighting import AlphaPolicy

DEFAULT_CADENCE = 10
NEVER = 10**9
POOLED_ROWS = 4096


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
        document = throughput_spec(data_section(None, Path(folder), images=12_800), evaluation={"every_epochs": 1000})
        run: dict[str, Any] = {"device": arguments.device, "pairs": arguments.pairs}
        cost = information_cost(document, steps=steps, **run)
        print(f"a step without them: {1000 * cost.step_s:.1f} ms")
        print(f"at every step: {cost.share:.2%} of step time (wanted: at most 5%)", flush=True)
        # Longer turns are less noisy: a few are enough.
        few = {**run, "pairs": max(2, arguments.pairs // 4)}
        cost = information_cost(document, steps=DEFAULT_CADENCE, cadence=DEFAULT_CADENCE, **few)
        print(f"every {DEFAULT_CADENCE} steps, the default: {cost.share:.2%} (wanted: at most 1%)", flush=True)
        batches, measured_s = adaptive_cost(document, **run)
        _, pooled_s = adaptive_cost(document, **few, rows=POOLED_ROWS)
    batch_s, step_s = measured_s / batches, cost.step_s
    print(
        f"adaptive weighting: a measured batch takes {batch_s / step_s:.1%} of a step, so measuring takes "
        f"{batch_s / (20 * step_s):.2%} of an epoch of 20 steps or more, {batch_s / (5 * step_s):.2%} of one of 5"
    )
    print(
        f"one rank of {POOLED_ROWS:,} pooled rows takes {pooled_s:.1f} s, {pooled_s / step_s:.1f} steps: "
        f"{pooled_s / (195 * step_s):.1%} of an epoch of 195 steps (CIFAR-10)"
    )


def adaptive_cost(document: dict[str, Any], *, device: str, pairs: int, rows: int | None = None) -> tuple[int, float]:
    """Batches and seconds of what adaptive weighting measures before an epoch, with pooled rows if given."""
    weighting = AdaptiveWeighting(rows=rows)
    objective = {"weighting": weighting.model_dump()}
    made = Trainer(validate_spec({**document, "objective": objective}), device=device)
    made.train_steps(1)  # at step 0 there is more to measure
    seconds = []
    for _ in range(pairs):
        began = _now(made)
        made._measure_before_epoch(1)
        seconds.append(_now(made) - began)
    size = made.spec.training.batch_size
    batches = AlphaPolicy(weighting).measurement_batches(1, steps=made.steps_per_epoch, batch_size=size)
    return batches, statistics.median(seconds)


@dataclass(frozen=True)
class InformationCost:
    """What logging the quantities costs."""

    share: float
    """What it adds to the time of the steps without."""
    step_s: float
    """A step without."""
    replayed: bool
    """Whether the steps of both trainers were replayed as CUDA graphs."""


def information_cost(
    document: dict[str, Any], *, device: str, pairs: int, steps: int, cadence: int = 1
) -> InformationCost:
    """The cost of logging every so many steps.

    A turn of `steps` must hold as many points whenever it begins: give a multiple of the cadence.
    """

    def trainer(log_every_steps: int) -> Trainer:
        training = {**document["training"], "log_every_steps": log_every_steps}
        made = Trainer(validate_spec({**document, "training": training}), device=device)
        for _ in range(3):
            _turn(made, steps)
        if 1 < log_every_steps < NEVER:
            # A point in the middle of each turn: at its end it would be waited for, which training does not do.
            made.train_steps(log_every_steps // 2)
        return made

    logging, silent = trainer(cadence), trainer(NEVER)
    ratios, without = [], []
    for pair in range(pairs):
        # Whoever goes second may find warmer caches or a busier machine: both go second equally often.
        if pair % 2:
            logged, unlogged = _turn(logging, steps), _turn(silent, steps)
        else:
            unlogged, logged = _turn(silent, steps), _turn(logging, steps)
        ratios.append(logged / unlogged)
        without.append(unlogged / steps)
    replayed = logging.replays and silent.replays
    return InformationCost(statistics.median(ratios) - 1, statistics.median(without), replayed)


def _turn(trainer: Trainer, steps: int) -> float:
    """Seconds of some steps, all within an epoch: its end would be logged and evaluated."""
    left = trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch
    if left <= steps:
        trainer.train_steps(left + max(1, steps // 2))  # a point stays in the middle of the turn
    began = _now(trainer)
    trainer.train_steps(steps)
    return _now(trainer) - began


def _now(trainer: Trainer) -> float:
    """Seconds since some moment, all work so far done: of this process on a CPU, of the clock on the wall on a GPU."""
    if trainer.device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(trainer.device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
