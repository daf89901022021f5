"""A data set as the rest sees it: training and held-out images, their labels, and a suitable augmentation."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from adadim_core.augmentation import Augmentation
from adadim_core.data.errors import DataError
from adadim_core.data.labels import UNLABELLED, Labels
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.sources import ArrayImages, ImageSource
from adadim_core.data.streaming import StreamedImages
from adadim_core.data.summary import DataSummary, summarize
from adadim_core.transfer import send_ahead

Images = Tensor | StreamedImages
"""(N, C, H, W) uint8. Both kinds have `len`, `shape`, `device` and take a tensor of rows in brackets."""

_SHARE_OF_DEVICE = 0.5


@dataclass(frozen=True)
class ImageDataset:
    """Images and labels of one data set."""

    name: str
    train_images: Images
    """What the encoder is trained on."""
    train_labels: Tensor
    """(N,) int64, from 0, or UNLABELLED; (N, K) uint8 of zeros and ones where images have several labels.

    Training never sees them; the evaluation does.
    """
    test_images: Images
    """(M, C, H, W), held out. M may be 0: then nothing is evaluated."""
    test_labels: Tensor
    """(M,) int64, from 0, or (M, K) uint8."""
    mean: tuple[float, ...]
    """Mean of each channel over the training images, in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation likewise."""
    augmentation: Augmentation
    """What a spec gets for the augmentation fields it leaves out."""

    def __post_init__(self) -> None:
        """Raises DataError if the parts are malformed or do not fit each other."""
        parts = (
            ("train", self.train_images, self.train_labels, UNLABELLED),
            ("test", self.test_images, self.test_labels, 0),
        )
        for part, images, labels, lowest in parts:
            if isinstance(images, Tensor) and images.dtype != torch.uint8:
                raise DataError(f"{part}_images must be uint8, from 0 to 255, not {images.dtype}")
            if len(images.shape) != 4 or 0 in images.shape[(part == "test") :]:
                raise DataError(f"{part}_images must be (N, C, H, W) with something in it, not {(*images.shape,)}")
            several = labels.ndim == 2 and labels.dtype == torch.uint8
            if not (several or (labels.ndim == 1 and labels.dtype == torch.int64)) or len(labels) != len(images):
                raise DataError(
                    f"{part}_labels must be int64, one for each of {len(images)} images, or uint8, a row for each, not "
                    f"{labels.dtype} of shape {(*labels.shape,)}"
                )
            if labels.numel() and (int(labels.min()) < lowest or (several and int(labels.max()) > 1)):
                raise DataError(f"{part}_labels must be {'0 or 1' if several else f'at least {lowest}'}")
        if self.train_labels.shape[1:] != self.test_labels.shape[1:]:
            raise DataError("train_labels and test_labels must both be classes, or as many labels an image")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            train, test = ((*images.shape[1:],) for images in (self.train_images, self.test_images))
            raise DataError(f"training and test images have different (C, H, W): {train} and {test}")
        if not self.channels == len(self.mean) == len(self.std):
            raise DataError(f"{self.channels} channels need as many means and standard deviations")
        if self.channels not in (1, 3):
            raise DataError(f"images have 1 or 3 channels, not {self.channels}")
        if not min(self.std) > 0:
            raise DataError(f"standard deviations must be positive, not {self.std}")

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def labelled_rows(self) -> Tensor:
        """Rows of the training images whose class or labels are known: a classifier of R can learn from them."""
        if self.train_labels.ndim > 1:
            return torch.arange(len(self.train_labels), device=self.train_labels.device)
        return (self.train_labels != UNLABELLED).nonzero().flatten()

    @cached_property
    def summary(self) -> DataSummary:
        """The facts about the set: what was read, and its fingerprint."""
        train = Part(_source(self.train_images), _array(self.train_labels), "given from Python")
        test = Part(_source(self.test_images), _array(self.test_labels), "given from Python")
        return summarize(RawDataset(self.name, train, test if len(test.labels) else None, self.augmentation), None)

    def known_as(self, summary: DataSummary) -> "ImageDataset":
        """This set, its facts given by who read it. A set made from it with `dataclasses.replace` has its own."""
        vars(self)["summary"] = summary
        return self

    @property
    def accuracy_metrics(self) -> tuple[str, ...]:
        """Metrics of R that the labels allow; the linear probe's is measured if the spec asks for it."""
        if self.summary.not_evaluated:
            return ()
        if self.summary.labels == "several":
            return ("knn_map",)
        return "knn_top1", "linear_top1", "few_labels_1", "few_labels_10"

    def to(self, device: torch.device) -> "ImageDataset":
        """The same set with its tensors on the device.

        Images that would fill half of the free memory of a GPU stay in main memory, and streamed ones on disk:
        `image_batches` sends them batch by batch.
        """
        images = [x for x in (self.train_images, self.test_images) if isinstance(x, Tensor)]
        fits = device.type != "cuda" or (
            sum(x.numel() for x in images) <= torch.cuda.mem_get_info(device)[0] * _SHARE_OF_DEVICE
        )

        def place(images: Images) -> Images:
            return images.to(device) if isinstance(images, Tensor) and fits else images

        placed = replace(
            self,
            train_images=place(self.train_images),
            train_labels=self.train_labels.to(device),
            test_images=place(self.test_images),
            test_labels=self.test_labels.to(device),
        )
        return placed.known_as(self.summary)


def _source(images: Images) -> ImageSource:
    if isinstance(images, StreamedImages):
        return images.source
    return ArrayImages(images.cpu().permute(0, 2, 3, 1).numpy(), None)


def _array(labels: Tensor) -> Labels:
    array: Labels = labels.cpu().numpy()
    return array


def image_batches(images: Images, rows: Iterable[Tensor], device: torch.device) -> Generator[Tensor, None, None]:
    """The images of each batch of rows, in order, on the device.

    Streamed images are decoded ahead by threads that end with the generator: exhaust it, or close it
    (`contextlib.closing`).

    Args:
        images: of a data set.
        rows: indices of each batch, on the device where the images are.
        device: where the batches are wanted.
    """
    if isinstance(images, Tensor) and images.device.type == device.type:
        for batch in rows:
            yield images[batch]
        return
    pin = device.type == "cuda"
    stored = _stored_batches(images, rows, pin=pin) if isinstance(images, Tensor) else images.batches(rows, pin=pin)
    # Closed from here, since a generator that is cut off does not end those it reads from.
    with closing(stored):
        yield from send_ahead(stored, device)


def _stored_batches(images: Tensor, rows: Iterable[Tensor], *, pin: bool) -> Generator[Tensor, None, None]:
    """Batches of images that are in memory, gathered where a GPU can fetch them."""
    for batch in rows:
        gathered = torch.empty((len(batch), *images.shape[1:]), dtype=images.dtype, pin_memory=pin)
        yield torch.index_select(images, 0, batch, out=gathered)
