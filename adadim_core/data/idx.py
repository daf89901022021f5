"""MNIST, Fashion-MNIST and other sets of four IDX files (KMNIST), plain or gzipped."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adadim_core.augmentation import Augmentation
from adadim_core.data import recipes
from adadim_core.data.archives import open_plain
from adadim_core.data.errors import DataError
from adadim_core.data.labels import read_labels
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.roots import check_inside
from adadim_core.data.sources import ArrayImages

_UINT8 = 0x08
# These sets are small and held whatever the memory limit; a damaged header must not claim more.
_LARGEST = 2**28


def load_mnist(path: Path, image_size: int | None) -> RawDataset:
    return _load("mnist", path, image_size, recipes.DIGITS)


def load_fashion_mnist(path: Path, image_size: int | None) -> RawDataset:
    return _load("fashion_mnist", path, image_size, recipes.CLOTHES)


def _load(name: str, path: Path, image_size: int | None, recipe: Augmentation) -> RawDataset:
    def part(stem: str) -> Part:
        images = ArrayImages(_read(path, f"{stem}-images", 3)[..., None], image_size)
        labels = read_labels(_read(path, f"{stem}-labels", 1), f"{stem}-labels")
        return Part(images, labels, f"{stem}-images")

    return RawDataset(name, part("train"), part("t10k"), recipe)


def _read(folder: Path, stem: str, dimensions: int) -> NDArray[np.uint8]:
    return read_idx(_find(folder, stem, dimensions), dimensions)


def _find(folder: Path, stem: str, dimensions: int) -> Path:
    """The file of that part, whose name has a hyphen where it was published and a dot where a tool unpacked it."""
    names = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return check_inside(folder / name)
    raise DataError(f"{folder} has no {names[0]}, plain or .gz: path must name the folder of the four IDX files")


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array, of the given number of dimensions, in an IDX file of unsigned bytes.

    Raises:
        DataError: the file is something else, truncated, or longer than it declares.
    """
    with open_plain(path) as file:
        header = file.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, _UINT8, dimensions]):
            raise DataError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        size = math.prod(shape)
        if size > _LARGEST:
            raise DataError(f"{path} claims {size} bytes, more than such a set has")
        data = file.read(size)
        if len(data) < size or file.read(1):
            raise DataError(f"{path} is truncated or damaged: it should hold {size} bytes of data")
    return np.frombuffer(data, np.uint8).reshape(shape)
