"""STL-10 as published: binary files, unpacked or as the .tar.gz.

The encoder is trained on the 5,000 labelled and the 100,000 unlabelled images; only labelled ones serve k-NN.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adadim_core.data import recipes
from adadim_core.data.errors import DataError
from adadim_core.data.labels import unlabelled
from adadim_core.data.official import find_files
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.sources import ArrayImages, ImageSource, JoinedImages

TRAIN_IMAGES, TEST_IMAGES, UNLABELLED_IMAGES = 5_000, 8_000, 100_000

_ARCHIVE, _FOLDER = "stl10_binary.tar.gz", "stl10_binary"
_NEEDED = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
_UNLABELLED_FILE = "unlabeled_X.bin"
_SIDE = 96


def load_stl10(path: Path, image_size: int | None) -> RawDataset:
    files = find_files(path, (*_NEEDED, _UNLABELLED_FILE), folders=[_FOLDER], archives=[_ARCHIVE])
    missing = [name for name in _NEEDED if name not in files]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}: path must name {_ARCHIVE} (or its folder {_FOLDER}), or where one "
            "of them lies"
        )

    def images(name: str, count: int) -> ImageSource:
        # Columns come before rows in these files.
        pixels = _bytes(files[name], name, count * 3 * _SIDE * _SIDE).reshape(count, 3, _SIDE, _SIDE)
        return ArrayImages(pixels.transpose(0, 3, 2, 1), image_size)

    def labels(name: str, count: int) -> NDArray[np.int64]:
        return _bytes(files[name], name, count).astype(np.int64) - 1

    train, train_labels = images("train_X.bin", TRAIN_IMAGES), labels("train_y.bin", TRAIN_IMAGES)
    origin = "train_X.bin"
    if _UNLABELLED_FILE in files:
        train = JoinedImages(train, images(_UNLABELLED_FILE, UNLABELLED_IMAGES))
        train_labels = np.concatenate([train_labels, unlabelled(UNLABELLED_IMAGES)])
        origin += f" and {_UNLABELLED_FILE}"
    return RawDataset(
        "stl10",
        Part(train, train_labels, origin),
        Part(images("test_X.bin", TEST_IMAGES), labels("test_y.bin", TEST_IMAGES), "test_X.bin"),
        recipes.photos(3, image_size or _SIDE),
    )


def _bytes(file: Path | bytes, name: str, expected: int) -> NDArray[np.uint8]:
    """What is in the file, mapped and not read where it lies on disk."""
    size = len(file) if isinstance(file, bytes) else file.stat().st_size
    if size != expected:
        raise DataError(f"{name} is truncated or damaged: it has {size} bytes, not {expected}")
    return np.frombuffer(file, np.uint8) if isinstance(file, bytes) else np.memmap(file, np.uint8, "r")
