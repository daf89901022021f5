"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels in 17 grey levels, part of the scikit-learn package."""

import numpy as np
import torch
from sklearn import datasets

from adadim_core.augmentation import Augmentation
from adadim_core.data.dataset import ImageDataset, channel_statistics

_TEST_SHARE = 0.2

# A mirrored digit is another shape or none; solarised or heavily cropped it is gone. Grey has no hue.
_AUGMENTATION = Augmentation(crop_scale=(0.5, 1.0), jitter=0.5)


def load_digits() -> ImageDataset:
    """The digits, split the same way every time: of each class, one fifth held out."""
    source = datasets.load_digits()
    images = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(source.target.astype(np.int64))
    test = torch.from_numpy(_held_out(source.target))
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


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Mask of the held-out rows. RandomState is frozen by NumPy, so the split is the same in every version."""
    rng = np.random.RandomState(0)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        mask[rows[: round(len(rows) * _TEST_SHARE)]] = True
    return mask
