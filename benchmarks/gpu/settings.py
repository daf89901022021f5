"""What every part of the suite is given, where it writes its figures, and the images all parts use.

Owns sizes and files. Measures nothing.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_images import AUGMENTATION

from adadim_core import load_dataset, replay

CLASSES = 10
WARM_UP_STEPS = 6
"""Steps of a trainer after which it replays graphs, and everything is compiled and chosen."""
SIDE, SMOKE_SIDE = 32, 16


@dataclass(frozen=True)
class Settings:
    """How large a part is."""

    device: str
    smoke: bool
    """Tiny networks and few steps: does everything run?"""
    seconds: float
    """What the part may take; it is ended some seconds later."""
    work: Path
    """A folder for files that are needed in between."""
    images: Path
    """The .npz all parts train on."""

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def at_most(self, seconds: float) -> float:
        """How long a wait may take: on a card so long, which leaves time for what follows. A smoke run measures no time
        and may be on a busy machine: there only the limit of the whole part counts."""
        return self.seconds if self.smoke else seconds

    @property
    def precision(self) -> str:
        """bfloat16; on a CPU float32, which has no slow detours there."""
        return "bfloat16" if self.cuda else "float32"

    @property
    def side(self) -> int:
        """Of the images, in pixels."""
        return SMOKE_SIDE if self.smoke else SIDE

    def data(self) -> dict[str, Any]:
        """The spec's data section."""
        return {"dataset": "npz", "path": str(self.images), "augmentation": AUGMENTATION}

    def model(self, backbone: str, width: int, **projector: int) -> dict[str, Any]:
        """The spec's model section; the projector is 2048-2048-2048 unless told otherwise."""
        wide = 64 if self.smoke else 2048
        return {
            "backbone": backbone,
            "width": max(2, width // 16) if self.smoke else width,
            "projector": {"layers": 3, "hidden": wide, "out": wide, **projector},
        }


class Record:
    """The figures of a part, in a file that is whole after each of them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._values: dict[str, Any] = {}
        self._began = time.monotonic()

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self._values, indent=1))
        partial.replace(self._file)
        print(f"{time.monotonic() - self._began:.1f} s, {name}: {json.dumps(value)}", flush=True)

    def attempt(self, name: str, measure: Callable[[], Any]) -> bool:
        """Put what a measurement gives, or why it failed; either way the part goes on."""
        replay._broken_off.clear()  # one measurement without a graph must not be the reason for the next one's
        try:
            self.put(name, measure())
        except Exception as error:  # noqa: BLE001 - out of memory and what is not known yet
            self.put(name, {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return False
        return True


def median_seconds(settings: Settings, turn: Callable[[], Any], *, rounds: int, warm_up: int = 1) -> list[float]:
    """Seconds of some turns in rising order, the device idle at the start and at the end of each."""
    for _ in range(warm_up):
        turn()
    seconds = []
    for _ in range(rounds):
        settings.wait()
        began = time.perf_counter()
        turn()
        settings.wait()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)


def spread(values: list[float], digits: int = 4) -> dict[str, float]:
    """Median, smallest and largest, to so many significant digits."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.{digits}g}") for name, value in named.items()}


def prepare_images(file: Path, path: str | None, *, smoke: bool) -> str:
    """Write the images of a path, or generated ones, as .npz. Returns what they are, in words."""
    if path is not None:
        name = "cifar10" if "cifar-10" in Path(path).name else "npz" if path.endswith(".npz") else "image_folder"
        data = load_dataset(name, path=path)
        train, test = (_pixels(images) for images in (data.train_images, data.test_images))
        labels = {"train_labels": data.train_labels.numpy(), "test_labels": data.test_labels.numpy()}
        np.savez(file, train_images=train, test_images=test, **labels)
        return f"{len(train):,} training and {len(test):,} test images of {Path(path).name}"
    train, test, side = (256, 64, SMOKE_SIDE) if smoke else (51_200, 10_000, SIDE)
    rng = np.random.default_rng(0)
    train_images, train_labels = _gratings(rng, train, side)
    test_images, test_labels = _gratings(rng, test, side)
    np.savez(
        file, train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
    )
    return f"{train:,} training and {test:,} test images, generated: gratings of ten kinds under noise"


def _pixels(images: Any) -> "np.ndarray[Any, Any]":
    """(N, H, W, C) uint8."""
    every = images[torch.arange(len(images))]
    return every.permute(0, 2, 3, 1).contiguous().numpy()


def _gratings(rng: np.random.Generator, count: int, side: int) -> tuple[Any, Any]:
    """Images (N, side, side, 3) of a grating on a coloured ground, and classes: five directions times two frequencies.

    Phase, colours and noise are free, so that the class is in the texture and not in single pixels.
    """
    labels = rng.integers(0, CLASSES, count)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    for start in range(0, count, 2048):
        part = labels[start : start + 2048]
        n = len(part)
        angle = (part % 5) * (np.pi / 5) + rng.normal(0, 0.12, n)
        frequency = np.where(part < 5, 0.5, 1.0) * rng.uniform(0.85, 1.15, n)
        phase = rng.uniform(0, 2 * np.pi, n)
        along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
        wave = np.sin(frequency[:, None, None] * along + phase[:, None, None])[..., None]
        ground, ink = rng.uniform(60, 195, (n, 1, 1, 3)), rng.uniform(-60, 60, (n, 1, 1, 3))
        noise = rng.normal(0, 25, (n, side, side, 3)).astype(np.float32)
        images[start : start + n] = np.clip(ground + ink * wave + noise, 0, 255)
    return images, labels.astype(np.int64)
