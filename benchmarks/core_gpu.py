"""Training on a GPU: images a second, share of the card's measured matrix peak, and what the information costs.

    .venv/bin/python benchmarks/core_gpu.py [--out benchmarks/results/gpu.json]
    .venv/bin/python benchmarks/core_gpu.py --smoke     on a CPU with tiny settings: does the script run?

ResNet-18 and ResNet-50 at full width, 32x32 images, projector 2048-2048-2048, batch 256, bfloat16, end to end with
augmentation. The peak is that of one large bfloat16 product of matrices, measured in the same run; the operations of a
step are counted, not estimated, and leave out what is not a convolution or a product of matrices.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from core_images import data_section, throughput_spec
from core_information_cost import DEFAULT_CADENCE, information_cost
from machine import describe
from torch.utils.flop_counter import FlopCounterMode

from adadim_core import Trainer
from adadim_core.spec import validate_spec


@dataclass(frozen=True)
class Settings:
    """How large the run is."""

    device: str
    width: int = 64
    batch: int = 256
    images: int = 25_600
    steps: int = 50
    rounds: int = 7
    pairs: int = 15
    matrix: int = 8192


SMOKE = Settings("cpu", width=4, batch=16, images=320, steps=2, rounds=2, pairs=2, matrix=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"), help="file of the results")
    parser.add_argument("--smoke", action="store_true", help="tiny settings on the CPU; writes nothing")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        raise SystemExit("no GPU here: torch.cuda.is_available() is false. --smoke checks the script on a CPU.")
    settings = SMOKE if arguments.smoke else Settings("cuda")
    results: dict[str, Any] = {"machine": describe("torch", "numpy"), **_card(settings)}
    print(results["machine"])
    print(results["card"])
    peak = _matrix_peak(settings)
    results["matrix_peak_tflops"] = peak / 1e12
    print(f"bfloat16 product of {settings.matrix}x{settings.matrix} matrices: {peak / 1e12:.4g} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        data = data_section(None, Path(folder), images=settings.images)
        for backbone in ("resnet18", "resnet50"):
            results[backbone] = _network(backbone, data, settings, peak)
    if not arguments.smoke:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"wrote {arguments.out}")


def _network(backbone: str, data: dict[str, Any], settings: Settings, peak: float) -> dict[str, float]:
    projector = {"layers": 3, "hidden": 32 * settings.width, "out": 32 * settings.width}
    document = throughput_spec(
        data,
        model={"backbone": backbone, "width": settings.width, "projector": projector},
        training={"batch_size": settings.batch, "precision": "bfloat16"},
    )
    trainer = Trainer(validate_spec(document), device=settings.device)
    trainer.train_steps(1)  # the first call also measures the untrained network
    with FlopCounterMode(display=False) as counter:
        trainer.train_steps(1)
    operations = counter.get_total_flops()
    speeds = [_images_per_s(trainer, settings) for _ in range(settings.rounds + 1)][1:]
    speed = statistics.median(speeds)
    share = speed / settings.batch * operations / peak
    cost, step_s = information_cost(document, device=settings.device, pairs=settings.pairs, steps=settings.steps // 2)
    print(
        f"{backbone}: {speed:.0f} images/s (two views each; {min(speeds):.0f} to {max(speeds):.0f}), "
        f"{operations / 1e12:.3g} TFLOP a step, {share:.1%} of the matrix peak"
    )
    print(
        f"  information: {cost:.2%} of step time at every step (wanted: at most 5%), "
        f"{cost / DEFAULT_CADENCE:.2%} every {DEFAULT_CADENCE} steps (at most 1%)"
    )
    return {
        "images_per_s": speed,
        "images_per_s_min": min(speeds),
        "images_per_s_max": max(speeds),
        "tflop_per_step": operations / 1e12,
        "share_of_matrix_peak": share,
        "information_cost_every_step": cost,
        "step_without_information_s": step_s,
    }


def _images_per_s(trainer: Trainer, settings: Settings) -> float:
    if trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch <= settings.steps:
        trainer.train_epoch()  # its end is evaluated: not within the time
    trainer.train_steps(1)
    _wait(settings)
    began = time.perf_counter()
    trainer.train_steps(settings.steps)
    _wait(settings)
    return settings.steps * settings.batch / (time.perf_counter() - began)


def _matrix_peak(settings: Settings) -> float:
    """Operations a second, the best of several tries."""
    n = settings.matrix
    a = torch.randn(n, n, device=settings.device, dtype=torch.bfloat16)
    b = torch.randn(n, n, device=settings.device, dtype=torch.bfloat16)
    best = 0.0
    for _ in range(6):
        _wait(settings)
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        _wait(settings)
        best = max(best, 10 * 2 * n**3 / (time.perf_counter() - began))
    return best


def _card(settings: Settings) -> dict[str, str]:
    if settings.device == "cpu":
        return {"card": "no card: smoke test on a CPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def _wait(settings: Settings) -> None:
    if settings.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
