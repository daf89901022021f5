"""Part lightly: the same training step in lightly 1.6, with its own transforms, DataLoader workers and losses.

The same network, batch, optimiser and precision as the trainer's, in the memory format that suits it; normalisation
is in lightly's transform. All cores load. Measured end to end, without its loading (views that lie on the device) and
as loading alone, so that it shows what limits it; the trainer in the same process just before and after.
"""

import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from adadim_core import Trainer
from adadim_core.building import build_model
from adadim_core.optimizers import build_optimizer
from adadim_core.precision import autocast
from adadim_core.spec import ExperimentSpec, validate_spec
from gpu.settings import WARM_UP_STEPS, Record, Settings, median_seconds, spread
from gpu.throughput import trial


def run(settings: Settings, record: Record) -> None:
    try:
        from lightly.loss import NTXentLoss, VICRegLoss
        from lightly.transforms import SimCLRTransform, VICRegTransform
    except ImportError as error:
        record.put("skipped", f"lightly cannot be imported here: {error}")
        return
    batch = 16 if settings.smoke else 256
    spec = trial(settings, "resnet18", batch)
    record.put("workers", _workers())
    data = Trainer(spec, device=settings.device).data
    channels = {"mean": list(data.mean), "std": list(data.std)}
    # The strengths of the recipe the trainer uses here (core_images.AUGMENTATION), in lightly's terms.
    recipe = {"input_size": settings.side, "cj_prob": 0.8, "cj_strength": 0.5, "cj_bright": 0.8, "cj_contrast": 0.8,
              "cj_sat": 0.8, "cj_hue": 0.2, "min_scale": 0.2, "random_gray_scale": 0.2, "gaussian_blur": 0.5,
              "normalize": channels}  # fmt: skip
    pairs = {
        "NT-Xent": (SimCLRTransform(**recipe), NTXentLoss(temperature=0.2), 1.0),
        "VICReg": (VICRegTransform(**recipe, solarize_prob=0.1), VICRegLoss(), 0.0),
    }
    images = data.train_images[torch.arange(len(data.train_images), device=data.train_images.device)]
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    for name, (transform, loss, alpha) in pairs.items():
        mine = validate_spec({**spec.model_dump(exclude_none=True), "objective": _only(alpha)})
        record.put(f"trainer, {name}", _trainer_speed(settings, mine))
        dataset = _Pairs(pixels, transform)
        for key, value in _lightly(settings, mine, data, dataset, loss).items():
            record.put(f"lightly, {name}, {key}", value)


def _only(alpha: float) -> dict[str, Any]:
    """The objective with one of its losses alone, which is what lightly's step computes."""
    return {"weighting": {"policy": "fixed", "alpha": alpha}, "mutual_information": {"gamma": 0.0}}


def _trainer_speed(settings: Settings, spec: ExperimentSpec) -> dict[str, float | bool]:
    """Images a second end to end, and whether steps were replayed."""
    trainer = Trainer(spec, device=settings.device)
    steps = 2 if settings.smoke else 20
    trainer.train_steps(WARM_UP_STEPS)
    seconds = median_seconds(settings, lambda: trainer.train_steps(steps), rounds=3)
    return {**spread([steps * spec.training.batch_size / s for s in seconds]), "replayed": trainer.replays}


class _Pairs(Dataset[list[Tensor]]):
    """Two views of an image by a transform of lightly's."""

    def __init__(self, pixels: Any, transform: Any) -> None:
        self._pixels = pixels
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self._transform(Image.fromarray(self._pixels[index]))
        return views


def _workers() -> int:
    return max(1, len(os.sched_getaffinity(0)))


def _lightly(
    settings: Settings, spec: ExperimentSpec, data: Any, dataset: _Pairs, loss: nn.Module
) -> dict[str, dict[str, float]]:
    """Images a second: end to end, loading alone, and the step alone."""
    device, batch = torch.device(settings.device), spec.training.batch_size
    model = build_model(spec, data, device, backbone=None).train()
    network = nn.Sequential(model.encoder.backbone, model.projector)  # the transform has normalised already
    optimizer = build_optimizer(model, spec.training)

    def step(views: list[Tensor]) -> None:
        x = torch.cat([view.to(device, non_blocking=True) for view in views])
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, torch.bfloat16 if settings.cuda else torch.float32):
            z = network(x.contiguous(memory_format=model.encoder.memory_format))
        loss(*z.float().chunk(2)).backward()
        optimizer.step()

    steps = 2 if settings.smoke else 40
    turns = 3
    drawn = (2 + (turns + 1) * 2 * steps + 4 * _workers()) * batch  # more than is used: workers run ahead
    sampler = RandomSampler(dataset, num_samples=drawn, replacement=True)
    loader = DataLoader(
        dataset, batch_size=batch, sampler=sampler, num_workers=_workers(), pin_memory=settings.cuda, drop_last=True
    )
    batches: Iterator[list[Tensor]] = iter(loader)
    held = [view.to(device) for view in next(batches)]
    alone = median_seconds(settings, lambda: [step(held) for _ in range(steps)], rounds=turns)
    for _ in range(4 * _workers()):  # those made ahead meanwhile
        next(batches)
    loading, ends = [], []
    for _ in range(turns):
        began = time.perf_counter()
        for _ in range(steps):
            next(batches)
        loading.append(steps * batch / (time.perf_counter() - began))
    step(next(batches))
    for _ in range(turns):
        settings.wait()
        began = time.perf_counter()
        for _ in range(steps):
            step(next(batches))
        settings.wait()
        ends.append(steps * batch / (time.perf_counter() - began))
    del batches
    print(f"median end to end {statistics.median(ends):.0f} images/s", flush=True)
    return {
        "end to end": spread(ends),
        "loading alone": spread(loading),
        "step alone": spread([steps * batch / s for s in alone]),
    }
