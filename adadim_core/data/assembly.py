"""From sources to a data set: decides what is held in memory, measures the channels, holds out images.

The choice between memory and stream changes no number: statistics come from the same sample either way.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adadim_core.augmentation import Augmentation
from adadim_core.data.dataset import UNLABELLED, ImageDataset, Images
from adadim_core.data.errors import DataError
from adadim_core.data.memory import memory_limit
from adadim_core.data.sources import ImageSource
from adadim_core.data.streaming import StreamedImages, decode_rows

Labels = NDArray[np.int64]

MAX_CLASSES = 100_000

_SAMPLE = 4096
_CHUNK = 2**23


def assemble(
    name: str,
    train: ImageSource,
    train_labels: NDArray[np.integer],
    test: ImageSource,
    test_labels: NDArray[np.integer],
    augmentation: Augmentation,
) -> ImageDataset:
    """The data set, in memory where it fits there (`memory_limit`), otherwise streamed.

    Raises:
        DataError: the parts do not belong together, or an image cannot be read.
    """
    _check("training", train, train_labels, lowest=UNLABELLED)
    _check("test", test, test_labels, lowest=0)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"training images are {_size(train)}, test images {_size(test)}; set data.image_size")
    if not (train_labels != UNLABELLED).any():
        raise DataError("no training image has a label, so there is nothing to evaluate R with")
    held = math.prod(train.shape) + math.prod(test.shape) <= memory_limit()
    train_images, test_images = (_images(source, held=held) for source in (train, test))
    mean, std = channel_statistics(train_images)
    return ImageDataset(
        name=name,
        train_images=train_images,
        train_labels=torch.from_numpy(train_labels.astype(np.int64)),
        test_images=test_images,
        test_labels=torch.from_numpy(test_labels.astype(np.int64)),
        mean=mean,
        std=std,
        augmentation=augmentation,
    )


def hold_out(labels: NDArray[np.integer], share: float) -> NDArray[np.bool_]:
    """Mask of held-out rows, the same share of each class.

    RandomState is frozen by NumPy, so the split is the same in every version.
    """
    rng = np.random.RandomState(0)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        mask[rows[: round(len(rows) * share)]] = True
    return mask


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1], over at most 4,096 images, always the same ones."""
    n = len(images)
    rows = np.arange(n) if n <= _SAMPLE else np.sort(np.random.RandomState(0).permutation(n)[:_SAMPLE])
    counts_C256: NDArray[np.float64] = np.zeros((images.shape[1], 256))
    for part in torch.split(torch.from_numpy(rows), max(1, _CHUNK // math.prod(images.shape[1:]))):
        for channel, values in enumerate(images[part].unbind(dim=1)):
            counts_C256[channel] += torch.bincount(values.flatten(), minlength=256).numpy()
    level = np.arange(256) / 255
    share_C256 = counts_C256 / counts_C256.sum(axis=1, keepdims=True)
    mean_C = share_C256 @ level
    # A channel without variation has nothing to divide by; one grey level keeps the division harmless.
    std_C = np.sqrt((share_C256 * np.square(level - mean_C[:, None])).sum(axis=1)).clip(min=1 / 255)
    return tuple(mean_C.tolist()), tuple(std_C.tolist())


def _images(source: ImageSource, *, held: bool) -> Tensor | StreamedImages:
    return decode_rows(source, list(range(source.shape[0]))) if held else StreamedImages(source)


def _check(part: str, source: ImageSource, labels: NDArray[np.integer], lowest: int) -> None:
    if not source.shape[0]:
        raise DataError(f"there are no {part} images")
    if len(labels) != source.shape[0]:
        raise DataError(f"there are {source.shape[0]} {part} images but {len(labels)} labels")
    if labels.min() < lowest or labels.max() >= MAX_CLASSES:
        raise DataError(
            f"{part} labels go from {labels.min()} to {labels.max()}, not from {lowest} to fewer than {MAX_CLASSES}"
        )


def _size(source: ImageSource) -> str:
    _, channels, height, width = source.shape
    return f"{width} x {height} pixels of {channels} channels"
