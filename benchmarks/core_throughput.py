"""Training throughput on a CPU, end to end with augmentation, beside the usual PIL pipeline with the same network.

    .venv/bin/python benchmarks/core_throughput.py [--data PATH] [--rounds 5] [--profile]

Ours: the trainer as it is, `precision: auto`. The other: each image cropped, flipped, jittered, turned grey, blurred
and solarised by PIL in DataLoader workers, two views each, the same network in float32 in PyTorch's default memory
format, VICReg as its authors wrote it. ResNet-18 of width 16, projector 128-2048-2048, batch 256, SGD. They take
turns in one run, in blocks of a few steps; medians count.
An image counts once for both of its views. The PIL side measures and logs nothing.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_images import data_section, throughput_spec
from machine import describe
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu
from torch.utils.data import DataLoader, Dataset, RandomSampler

from adadim_core import Trainer, build_encoder, build_projector, load_dataset
from adadim_core.optimizers import build_optimizer
from adadim_core.spec import ExperimentSpec, validate_spec

BATCH = 256
# What a profiler calls things, and what they are.
KINDS = {
    "convolutions": ("convolution", "mkldnn_conv"),
    "BatchNorm": ("batch_norm",),
    "ReLU": ("threshold_backward", "clamp_min", "relu"),
    "matrix products (projector, losses, crops)": ("aten::mm", "addmm", "bmm", "baddbmm", "matmul", "linear"),
    "optimiser": ("_foreach", "_fused", "Optimizer"),
    "copies and casts": ("copy_", "_to_copy", "contiguous", "clone", "cat"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="image folder or archive, CIFAR-10 archive, or .npz; default: generated images")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--steps", type=int, default=8, help="steps a turn")
    parser.add_argument("--pil-workers", type=int, default=2, help="processes of the PIL pipeline")
    parser.add_argument("--profile", action="store_true", help="show where the time of our side goes")
    arguments = parser.parse_args()
    print(describe("torch", "pillow", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        data = data_section(arguments.data, Path(folder))
        sections = {"training": {"optimizer": "sgd", "lr": 0.03}}
        spec = validate_spec(throughput_spec(data, **sections))
        trainer = Trainer(spec, device="cpu")
        dtype = trainer._training.dtype
        print(f"{arguments.data or 'generated images'}, {torch.get_num_threads()} threads, {dtype} forward")
        ours = _trainer_steps(trainer)
        theirs = _pil_steps(spec, workers=arguments.pil_workers)
        speeds: dict[str, list[float]] = {"ours": [], "PIL": []}
        for turn in range(arguments.rounds + 1):
            for name, steps in (("ours", ours), ("PIL", theirs)):
                speed = steps(arguments.steps)
                if turn:  # the first warms up
                    speeds[name].append(speed)
        for name, measured in speeds.items():
            print(f"{name}: median {statistics.median(measured):.0f} images/s ({_list(measured)})")
        ratio = statistics.median(a / b for a, b in zip(*speeds.values(), strict=True))
        print(f"ratio of turns, median: {ratio:.2f} (wanted: at least 300 images/s where PIL reaches 120, 2.5)")
        if arguments.profile:
            _profile(trainer)


def _trainer_steps(trainer: Trainer) -> Callable[[int], float]:
    def run(steps: int) -> float:
        if trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch <= steps:
            trainer.train_epoch()  # its end is evaluated: not within a turn
        trainer.train_steps(1)
        began = time.perf_counter()
        trainer.train_steps(steps)
        return steps * BATCH / (time.perf_counter() - began)

    return run


def _pil_steps(spec: ExperimentSpec, *, workers: int) -> Callable[[int], float]:
    data = load_dataset(spec.data.dataset, path=spec.data.path)
    torch.manual_seed(0)
    encoder = build_encoder(spec.model, mean=data.mean, std=data.std)
    network = nn.Sequential(encoder.backbone, build_projector(spec.model.projector, encoder.features))
    optimizer = build_optimizer(network, spec.training)
    images = data.train_images[torch.arange(min(len(data.train_images), 50_000))]
    pairs = PilPairs(images.permute(0, 2, 3, 1).numpy())

    def step(views: list[Tensor]) -> None:
        loss = _plain_vicreg(*network((torch.cat(views) - encoder.mean) * encoder.scale).chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def run(steps: int) -> float:
        # More batches than are timed: workers run ahead.
        sampler = RandomSampler(pairs, num_samples=(steps + 2 + 2 * max(workers, 1)) * BATCH)
        loader = DataLoader(pairs, batch_size=BATCH, sampler=sampler, num_workers=workers)
        batches: Iterator[list[Tensor]] = iter(loader)
        # As many batches lie ready at the start of the turn as at its end: workers go on while the clock runs.
        for _ in range(2):
            step(next(batches))
        began = time.perf_counter()
        for _ in range(steps):
            step(next(batches))
        return steps * BATCH / (time.perf_counter() - began)

    return run


def _plain_vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """The loss with the covariance matrices written out, as in the repository of Bardes et al. 2022."""
    n, d = z1.shape
    loss = 25 * mse_loss(z1, z2)
    for z in (z1, z2):
        loss = loss + 25 * relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (n - 1)
        loss = loss + (covariance.square().sum() - covariance.diagonal().square().sum()) / d
    return loss


class PilPairs(Dataset[list[Tensor]]):
    """Two random views of each image, made by PIL one image at a time: the usual recipe."""

    def __init__(self, images: "np.ndarray[Any, Any]") -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = Image.fromarray(self._images[index])
        return [self._view(image) for _ in range(2)]

    def _view(self, image: Image.Image) -> Tensor:
        image = _resized_crop(image)
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        if random.random() < 0.8:
            image = _jitter(image, 0.5)
        if random.random() < 0.2:
            image = ImageOps.grayscale(image).convert("RGB")
        if random.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        if random.random() < 0.1:
            image = ImageOps.solarize(image, 128)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _resized_crop(image: Image.Image) -> Image.Image:
    side = image.width
    area, ratio = side * side * random.uniform(0.2, 1.0), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(side, round((area * ratio) ** 0.5)), min(side, round((area / ratio) ** 0.5))
    left, top = random.randint(0, side - width), random.randint(0, side - height)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def _jitter(image: Image.Image, strength: float) -> Image.Image:
    def brightness(x: Image.Image) -> Image.Image:
        return ImageEnhance.Brightness(x).enhance(random.uniform(1 - 0.8 * strength, 1 + 0.8 * strength))

    def contrast(x: Image.Image) -> Image.Image:
        return ImageEnhance.Contrast(x).enhance(random.uniform(1 - 0.8 * strength, 1 + 0.8 * strength))

    def saturation(x: Image.Image) -> Image.Image:
        return ImageEnhance.Color(x).enhance(random.uniform(1 - 0.8 * strength, 1 + 0.8 * strength))

    def hue(x: Image.Image) -> Image.Image:
        channels = list(x.convert("HSV").split())
        turned = np.array(channels[0]) + np.uint8(int(random.uniform(-0.2, 0.2) * strength * 255) % 256)
        channels[0] = Image.fromarray(turned)
        return Image.merge("HSV", channels).convert("RGB")

    operations = [brightness, contrast, saturation, hue]
    random.shuffle(operations)
    for operation in operations:
        image = operation(image)
    return image


def _profile(trainer: Trainer) -> None:
    """Where the processor time of our steps goes."""
    views: list[float] = []
    original = trainer._batches.views

    def timed(*arguments: Any, **settings: Any) -> Tensor:
        began = time.perf_counter()
        result = original(*arguments, **settings)
        views.append(time.perf_counter() - began)
        return result

    trainer._batches.views = timed  # type: ignore[method-assign]
    if trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch <= 10:
        trainer.train_epoch()
    trainer.train_steps(1)
    views.clear()
    with torch.profiler.profile() as profiler:
        began = time.perf_counter()
        trainer.train_steps(8)
        seconds = time.perf_counter() - began
    events = [event for event in profiler.key_averages() if event.self_cpu_time_total > 0]
    total = sum(event.self_cpu_time_total for event in events)
    shares = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in events:
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), None)
        shares[kind or "everything else"] += event.self_cpu_time_total / total
    print(f"\nof {1000 * seconds / 8:.0f} ms a step under the profiler, {sum(views) / seconds:.1%} is augmentation;")
    print("by operation, augmentation included:")
    for kind, share in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"  {share:6.1%}  {kind}")
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=50))


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


if __name__ == "__main__":
    main()
