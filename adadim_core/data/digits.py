"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels in 17 grey levels, part of the scikit-learn package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from adadim_core.augmentation import Augmentation
from adadim_core.data.dataset import ImageDataset, channel_statistics

_TEST_SHARE = 0.2

# A mirrored digit is another shape or none; solarised or heavily cropped it is gone. Grey has no hue.
_AUGMENTATION = Augmentation(crop_scale=(0.5, 1.0), jitter=0.5)


def load_digits() -> ImageDataset:
    """The digits, split the same way every time: of each class, one fifth held out."""
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    pixels, classes = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1]
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8))
    labels = torch.from_numpy(classes)
    test = torch.from_numpy(_held_out(classes))
    mean, std = channel_statistics(images[~test])
    return ImageDataset(
        name="digits",
        train_images=images[~test].contiguous(),
        train_labels=labels[~test],
        test_images=images[test].contiguous(),
        test_labels=labels[test],
        mean=mean,
        std=std,
        augmentation=_AUGMENTATION,
    )


def _file() -> Path:
    """The file in the installed package. Read as it is: importing scikit-learn would take each process seconds."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the digits data set comes with scikit-learn, which is not installed")
    return Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Mask of the held-out rows. RandomState is frozen by NumPy, so the split is the same in every version."""
    rng = np.random.RandomState(0)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        mask[rows[: round(len(rows) * _TEST_SHARE)]] = True
    return mask
