"""From a loader's result to a data set: decides what is held in memory, and measures the channels.

Whether images are held or streamed changes no result: statistics come from the same sample either way.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adadim_core.data.bad_files import name_bad, without_bad
from adadim_core.data.dataset import ImageDataset, Images
from adadim_core.data.errors import BadFileError, DataError
from adadim_core.data.labels import Labels
from adadim_core.data.memory import memory_limit
from adadim_core.data.raw import RawDataset
from adadim_core.data.sources import ImageSource
from adadim_core.data.streaming import StreamedImages, decode_rows
from adadim_core.data.summary import summarize

BadFiles = Literal["fail", "skip"]

_SAMPLE = 4096
_CHUNK = 2**23


def assemble(raw: RawDataset, *, path: str | None = None, bad_files: BadFiles = "fail") -> ImageDataset:
    """The data set, in memory if it fits (`memory_limit`), otherwise streamed.

    Args:
        raw: a loader's result.
        path: where it was found, for the summary.
        bad_files: what to do about files that cannot be decoded. skip: check all files first, and leave those out.

    Raises:
        DataError: the parts do not belong together, or an image cannot be read. Where the set is held in memory all
            such images are named.
    """
    check_shapes(raw)
    if bad_files == "skip":
        raw = without_bad(raw)
    parts = [part for part in (raw.train, raw.test) if part is not None]
    held = sum(math.prod(part.images.shape) for part in parts) <= memory_limit()
    try:
        images = [_images(part.images, held=held) for part in parts]
        mean, std = channel_statistics(images[0])
        summary = summarize(raw, path)
    except BadFileError as error:
        raise (name_bad(raw) if held else None) or error from error
    labels = [_labels(part.labels) for part in parts]
    if len(parts) == 1:  # nothing is held out
        images.append(torch.empty((0, *raw.train.images.shape[1:]), dtype=torch.uint8))
        labels.append(labels[0][:0])
    return ImageDataset(
        name=raw.name,
        train_images=images[0],
        train_labels=labels[0],
        test_images=images[1],
        test_labels=labels[1],
        mean=mean,
        std=std,
        augmentation=raw.augmentation,
    ).known_as(summary)


def check_shapes(raw: RawDataset) -> None:
    """Raise DataError if the parts do not belong together."""
    train, test = raw.train, raw.test
    if test is not None and train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"training images are {_size(train.images)}, test images {_size(test.images)}; set data.image_size"
        )


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


def _labels(labels: Labels) -> Tensor:
    return torch.from_numpy(labels.astype(np.uint8 if labels.ndim == 2 else np.int64))


def _size(source: ImageSource) -> str:
    _, channels, height, width = source.shape
    return f"{width} x {height} with {channels} channel{'s' * (channels > 1)}"
