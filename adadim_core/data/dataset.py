"""What a data set is to the rest: two labelled stacks of images, and the augmentation that suits them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adadim_core.augmentation import Augmentation


@dataclass(frozen=True)
class ImageDataset:
    """Images and labels of one data set, all on one device."""

    name: str
    train_images: Tensor
    """(N, C, H, W) uint8."""
    train_labels: Tensor
    """(N,) int64, from 0. Training never sees them; the nearest-neighbour evaluation does."""
    test_images: Tensor
    """(M, C, H, W) uint8, held out."""
    test_labels: Tensor
    """(M,) int64."""
    mean: tuple[float, ...]
    """Mean of each channel over the training images, in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation likewise."""
    augmentation: Augmentation
    """What a spec gets for the augmentation fields it leaves out."""

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    def to(self, device: torch.device) -> "ImageDataset":
        """The same set with its tensors on the device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images, in [0, 1]."""
    x = images.double() / 255
    std, mean = torch.std_mean(x, dim=(0, 2, 3))
    return tuple(mean.tolist()), tuple(std.tolist())
