"""A loader's result: where the images of a set are and what is known of them, before more than a few are decoded.

Owns the split into training and held-out images if a set has none. Does not own decoding (streaming.py) or what is held
in memory (assembly.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from adadim_core.augmentation import Augmentation
from adadim_core.data.errors import DataError
from adadim_core.data.labels import UNLABELLED, Labels, hold_out, is_labelled, same_kind
from adadim_core.data.skipped import Skipped
from adadim_core.data.sources import ImageSource, SelectedImages


@dataclass(frozen=True)
class Part:
    """Training or held-out images."""

    images: ImageSource
    labels: Labels
    origin: str
    """Where they come from, for people."""

    def __post_init__(self) -> None:
        if len(self.labels) != self.images.shape[0]:
            raise DataError(f"{self.origin}: {self.images.shape[0]} images but {len(self.labels)} labels")

    def select(self, rows: NDArray[np.integer], origin: str | None = None) -> "Part":
        """Some of its images."""
        return Part(SelectedImages(self.images, rows), self.labels[rows], origin or self.origin)


@dataclass(frozen=True)
class SizesSeen:
    """Sizes of the image files that were looked at."""

    looked_at: int
    smallest: tuple[int, int]
    """Width and height of the one with the fewest pixels."""
    largest: tuple[int, int]


@dataclass(frozen=True)
class RawDataset:
    """A data set before it is decoded."""

    name: str
    train: Part
    test: Part | None
    """Held-out images with labels; None: there is nothing that R could be evaluated with."""
    augmentation: Augmentation
    """What suits the images."""
    class_names: tuple[str, ...] | None = None
    """By number; None: classes have numbers only."""
    skipped: Skipped = field(default_factory=Skipped)
    unused: tuple[str, ...] = ()
    """What lies beside the images that were read and is not used, each with the reason."""
    sizes: SizesSeen | None = None
    """None: all images have one size."""
    bad_files: tuple[str, ...] = ()
    """Files that were left out because they cannot be read, each with the reason."""


def split_parts(train: Part, test: Part | None) -> tuple[Part, Part | None]:
    """Training and held-out images: those given, or a tenth of each class of the training images.

    Held-out images whose class is unknown are of no use and are left out. So is the whole part if the training images
    have no labels.
    """
    if not is_labelled(train.labels):
        return train, None
    if test is not None and is_labelled(test.labels):
        train_labels, test_labels = same_kind(train.labels, test.labels)
        train, test = replace(train, labels=train_labels), replace(test, labels=test_labels)
        if test.labels.ndim == 1 and (test.labels == UNLABELLED).any():
            test = test.select(np.flatnonzero(test.labels != UNLABELLED), f"{test.origin}, those with a label")
        return train, test
    mask = hold_out(train.labels)
    if not mask.any():
        return train, None
    return train.select(np.flatnonzero(~mask)), train.select(np.flatnonzero(mask), f"held out of {train.origin}")
