"""Images for the benchmarks of adadim_core: those at a path, or generated ones with the same shape."""

from pathlib import Path
from typing import Any

import numpy as np

# The usual two-view recipe of this line of work, the same for every set.
AUGMENTATION = {"crop_scale": [0.2, 1.0], "flip": 0.5, "jitter": 0.5, "grayscale": 0.2, "blur": 0.5, "solarize": 0.1}


def data_section(path: str | None, folder: Path, *, images: int = 5120, side: int = 32) -> dict[str, Any]:
    """The spec's data section.

    Args:
        path: an image folder or archive, a CIFAR-10 archive or folder, or an .npz; None: generated images.
        folder: where generated images are put.
        images, side: how many, and how large.
    """
    if path is not None:
        dataset = "npz" if path.endswith(".npz") else "cifar10" if "cifar-10" in Path(path).name else "image_folder"
        return {"dataset": dataset, "path": str(Path(path).resolve()), "augmentation": AUGMENTATION}
    rng = np.random.default_rng(0)
    # Blocks of colour under noise: the arithmetic costs the same as on photographs, and nothing is constant.
    coarse = rng.integers(0, 256, (images, 4, 4, 3)).repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    pixels = np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)
    labels = rng.integers(0, 10, images)
    held_out = max(images // 10, 16)
    file = folder / "generated.npz"
    np.savez(
        file,
        train_images=pixels,
        train_labels=labels,
        test_images=pixels[:held_out],
        test_labels=labels[:held_out],
    )
    return {"dataset": "npz", "path": str(file), "augmentation": AUGMENTATION}


def throughput_spec(data: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """ResNet-18 of width 16, projector 128-2048-2048, batch 256, VICReg; sections given by keyword are merged in."""
    document: dict[str, Any] = {
        "name": "benchmark",
        "data": data,
        "model": {"backbone": "resnet18", "width": 16, "projector": {"layers": 2, "hidden": 2048, "out": 2048}},
        "objective": {"weighting": {"policy": "fixed", "alpha": 0.0}},
        "training": {"epochs": 1000, "batch_size": 256},
    }
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return document
