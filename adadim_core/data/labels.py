"""Labels of images: one class per image, several, or none known. Owns reading them from arrays and the held-out split.

Shapes: (N,) int64, a class from 0 or UNLABELLED; or (N, K) uint8, 1 where the image has label k.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adadim_core.data.errors import DataError

Labels = NDArray[np.int64] | NDArray[np.uint8]

UNLABELLED = -1
"""The label of an image whose class is not known."""

MAX_CLASSES = 100_000

_HELD_OUT = 0.1


def read_all_labels(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Labels], tuple[str, ...] | None]:
    """Labels of each part of a set from given arrays, and the names of the classes if labels are names.

    Raises:
        DataError: as for `read_labels`, or some parts have names and others numbers.
    """
    arrays = {key: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for key, array in arrays.items()}
    named = [array.ravel() for array in arrays.values() if array.dtype.kind in "US"]
    if not named:
        return {key: read_labels(array, key) for key, array in arrays.items()}, None
    if len(named) < len(arrays) or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{', '.join(arrays)} must all be numbers, or all be one name for each image")
    names = np.unique(np.concatenate([array.astype(np.str_) for array in named]))
    found = {key: np.searchsorted(names, array.astype(np.str_)).astype(np.int64) for key, array in arrays.items()}
    return dict(found), tuple(names.tolist())


def read_labels(array: NDArray[Any], key: str) -> Labels:
    """Labels from an array of numbers.

    They may have any type as long as they are integers; -1 and NaN stand for an unknown class. Two-dimensional labels
    are one column, or several labels per image as zeros and ones; rows with a single one each are classes.

    Raises:
        DataError: the labels have none of these forms.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.dtype.kind not in "buif":
        raise DataError(f"{key} is {array.dtype} of shape {array.shape}: needed is one whole number for each image")
    return _several(array, key) if array.ndim == 2 else _one(array, key)


def _one(array: NDArray[Any], key: str) -> NDArray[np.int64]:
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), UNLABELLED, array)
        if not np.array_equal(array, np.rint(array)):
            raise DataError(f"{key} is {array.dtype} with fractions: needed is one whole number for each image")
    if len(array) and not (array.min() >= UNLABELLED and array.max() < MAX_CLASSES):
        raise DataError(
            f"{key} go from {array.min()} to {array.max()}; classes are numbered from 0 to fewer than {MAX_CLASSES}, "
            f"{UNLABELLED} is an unknown one"
        )
    return array.astype(np.int64)


def _several(array: NDArray[Any], key: str) -> Labels:
    if not array.shape[1] or array.shape[1] >= MAX_CLASSES or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{key} has shape {array.shape}: needed is one whole number for each image, or zeros and ones, a column "
            "for each of several labels"
        )
    if len(array) and (array.sum(axis=1) == 1).all():  # one-hot
        classes: NDArray[np.int64] = array.argmax(axis=1).astype(np.int64)
        return classes
    return array.astype(np.uint8)


def same_kind(train: Labels, test: Labels) -> tuple[Labels, Labels]:
    """Both in the form of several labels per image if one of them has it.

    A part in which every image happens to have one label of several reads as classes.
    """
    if train.ndim == test.ndim:
        return train, test
    columns = (train if train.ndim == 2 else test).shape[1]

    def several(labels: Labels) -> Labels:
        if labels.ndim == 2:
            return labels
        if len(labels) and labels.max() >= columns:
            raise DataError(f"one part has {columns} labels an image, the other a class of number {labels.max()}")
        spread = np.zeros((len(labels), columns), np.uint8)
        known = np.flatnonzero(labels != UNLABELLED)
        spread[known, labels[known]] = 1
        return spread

    return several(train), several(test)


def unlabelled(count: int) -> NDArray[np.int64]:
    """Labels for images of unknown classes."""
    return np.full(count, UNLABELLED, np.int64)


def hold_out(labels: Labels, share: float = _HELD_OUT) -> NDArray[np.bool_]:
    """Mask of held-out rows: the same share of each class, of one with two images or more at least one.

    Of images with several labels, the same share of all. None of unlabelled images or of a single class: there is
    nothing to classify. RandomState is frozen by NumPy, so the split is the same in every version.
    """
    rng = np.random.RandomState(0)
    mask = np.zeros(len(labels), dtype=bool)
    if labels.ndim == 2:
        groups = [np.arange(len(labels))]
    else:
        known, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
        # One sort brings the rows of each class together: a look at all rows for each class takes minutes for many.
        order = np.argsort(labels, kind="stable")[len(labels) - counts.sum() :]
        groups = np.split(order, np.cumsum(counts)[:-1]) if len(known) > 1 else []
    for group in groups:
        rows = rng.permutation(group)
        mask[rows[: max(round(len(rows) * share), int(len(rows) > 1))]] = True
    return mask


def class_counts(labels: Labels, classes: int) -> NDArray[np.int64]:
    """(classes,): images of each class, or with each label."""
    if labels.ndim == 2:
        counted: NDArray[np.int64] = labels.sum(axis=0, dtype=np.int64)
        return np.pad(counted, (0, classes - len(counted)))
    return np.bincount(labels[labels != UNLABELLED], minlength=classes)


def is_labelled(labels: Labels) -> bool:
    """Whether the class of any image is known."""
    return labels.ndim == 2 or bool((labels != UNLABELLED).any())


class Evaluation(NamedTuple):
    """What labels allow to evaluate."""

    labels: Literal["none", "one", "several"]
    """Labels an image."""
    missing: str
    """Why nothing can be evaluated; empty: something can."""


def what_to_evaluate(train: Labels, test: Labels | None) -> Evaluation:
    """Whether a classifier can learn from the training labels, and be judged by the held-out ones."""
    if train.ndim == 2:
        if test is None or not len(test):
            return Evaluation("several", "there are no held-out images")
        divided = (train.min(axis=0) != train.max(axis=0)) & (test.min(axis=0) != test.max(axis=0))
        return Evaluation("several", "" if divided.any() else "no label is on some of the images only")
    if not is_labelled(train):
        return Evaluation("none", "the training images have no labels")
    known = train[train != UNLABELLED]
    if known.min() == known.max():
        return Evaluation("one", "all training images with a label are of one class")
    return Evaluation("one", "there are no held-out images" if test is None or not len(test) else "")
