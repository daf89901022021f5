"""CIFAR-10 and CIFAR-100 as published: the Python or the binary version, unpacked or as the .tar.gz."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adadim_core.data import recipes
from adadim_core.data.batch_pickle import read_batch
from adadim_core.data.errors import DataError
from adadim_core.data.official import find_files
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.sources import ArrayImages

TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_LARGEST = 2**28

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Version:
    """One of the published forms of a set."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    parse: Callable[[bytes, str], Batch]


def load_cifar10(path: Path, image_size: int | None) -> RawDataset:
    return _load("cifar10", _CIFAR10, path, image_size, classes=10)


def load_cifar100(path: Path, image_size: int | None) -> RawDataset:
    """CIFAR-100 with its hundred fine classes."""
    return _load("cifar100", _CIFAR100, path, image_size, classes=100)


def _load(name: str, versions: tuple[_Version, ...], path: Path, image_size: int | None, *, classes: int) -> RawDataset:
    files = find_files(
        path,
        [file for version in versions for file in (*version.train, version.test)],
        folders=[version.folder for version in versions],
        archives=[version.archive for version in versions],
    )
    version = max(versions, key=lambda version: len(files.keys() & {*version.train, version.test}))
    missing = [file for file in (*version.train, version.test) if file not in files]
    if missing:
        known = " or ".join(f"{v.archive} (or its folder {v.folder})" for v in versions)
        raise DataError(f"{path} lacks {', '.join(missing)}: path must name {known}, or where one of them lies")

    def read(file: str) -> Batch:
        content = files[file]
        if not isinstance(content, bytes):
            if content.stat().st_size > _LARGEST:
                raise DataError(f"{content} has {content.stat().st_size} bytes, more than such a file has")
            content = content.read_bytes()
        return version.parse(content, file)

    batches = [read(file) for file in version.train]
    test_pixels, test_labels = read(version.test)
    train_pixels = np.concatenate([pixels for pixels, _ in batches])
    train_labels = np.concatenate([labels for _, labels in batches])
    for part, labels in (("training", train_labels), ("test", test_labels)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"the {part} files in {path} hold labels from {labels.min()} to {labels.max()}, not 0 to {classes - 1}"
            )
    for part, pixels, expected in (("training", train_pixels, TRAIN_IMAGES), ("test", test_pixels, TEST_IMAGES)):
        if pixels.shape != (expected, _PIXELS):
            raise DataError(f"the {part} files in {path} hold an array of {pixels.shape}, not ({expected}, {_PIXELS})")
    return RawDataset(
        name,
        Part(ArrayImages(_as_images(train_pixels), image_size), train_labels, ", ".join(version.train)),
        Part(ArrayImages(_as_images(test_pixels), image_size), test_labels, version.test),
        recipes.photos(3, image_size or _SIDE),
    )


def _as_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 32, 32, 3): rows hold one channel after the other."""
    return pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)


def _read_binary(data: bytes, file: str, *, label_bytes: int) -> Batch:
    """Records of one or two label bytes (the last one is the finest) and the pixels."""
    record = label_bytes + _PIXELS
    if not data or len(data) % record:
        raise DataError(f"{file} is truncated or damaged: {len(data)} bytes are no whole number of images")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


_CIFAR10 = (
    _Version(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        partial(read_batch, label_key=b"labels"),
    ),
    _Version(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        partial(_read_binary, label_bytes=1),
    ),
)
_CIFAR100 = (
    _Version(
        "cifar-100-python.tar.gz",
        "cifar-100-python",
        ("train",),
        "test",
        partial(read_batch, label_key=b"fine_labels"),
    ),
    _Version(
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        partial(_read_binary, label_bytes=2),
    ),
)
