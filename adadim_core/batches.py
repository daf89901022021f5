"""The batches of a trial: their images in order, and random views of them.

Owns their randomness: order and views are functions of (seed, purpose, position) without running state, so that any
moment of a run can be recomputed without its past. Does not own what is done with the views (step).

Shapes: N images of the global batch, n of this process, V views of each.
"""

from collections.abc import Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from adadim_core.accumulation import split_views
from adadim_core.augmentation import augment
from adadim_core.building import share_of_batch
from adadim_core.data import ImageDataset, image_batches
from adadim_core.seeding import generator
from adadim_core.spec import ExperimentSpec
from adadim_core.transfer import send


class Batches:
    """Draws the batches of a trial from its training images."""

    def __init__(self, spec: ExperimentSpec, data: ImageDataset, device: torch.device) -> None:
        """Raises ValueError if batch size, processes and parts do not fit each other and the data."""
        self.size = spec.training.batch_size
        """N, images of a global batch."""
        self.share = share_of_batch(spec.training, data)
        """The part of each global batch that this process works on."""
        self.steps_per_epoch = len(data.train_images) // self.size
        self._seed = spec.training.seed
        self._device = device
        self._train_images = data.train_images
        self._parts = spec.training.accumulate
        self._recipe = data.augmentation.with_spec(spec.data.augmentation)

    def order(self, epoch: int, purpose: str = "order") -> Tensor:
        """A permutation of the training images, on the device that holds them."""
        source = generator(self._seed, purpose, epoch)
        return send(torch.randperm(len(self._train_images), generator=source), self._train_images.device)

    def images(self, batches: Sequence[Tensor]) -> closing[Generator[Tensor, None, None]]:
        """This process's share of the images of each batch, on the device, to be used in a with statement.

        Args:
            batches: rows of each global batch, from `order`.
        """
        mine = (rows_N[self.share] for rows_N in batches)
        return closing(image_batches(self._train_images, mine, self._device))

    def views(self, images: Tensor, *purpose: str | int, views: int = 2) -> Tensor:
        """(V * n, C, H, W) in [0, 1]: this process's share of a batch, augmented as it would be in one process.

        Args:
            images: (n, C, H, W) uint8, from `images`.
            purpose: what the views are for, and where: `"step", 7`.
            views: V.
        """
        return augment(
            images,
            self._recipe,
            generator(self._seed, "augmentation", *purpose),
            views=views,
            total=self.size,
            offset=self.share.start,
        )

    def blank_views(self) -> Tensor:
        """Views of black images, as many as pass through the network at once."""
        shape = (self.share.stop - self.share.start, *self._train_images.shape[1:])
        images = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        return split_views(self.views(images, "compilation"), self._parts)[0]
