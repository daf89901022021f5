"""Data sets by name. Owns the table, and keeps the last set, so that trials run one after the other read it once."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adadim_core.data.cifar import load_cifar10, load_cifar100
from adadim_core.data.dataset import ImageDataset
from adadim_core.data.digits import load_digits
from adadim_core.data.errors import DataError
from adadim_core.data.idx import load_fashion_mnist, load_mnist
from adadim_core.data.image_folder import load_image_folder
from adadim_core.data.memory import MEMORY_VARIABLE
from adadim_core.data.npz import load_medmnist, load_npz
from adadim_core.data.roots import resolve
from adadim_core.data.stl10 import load_stl10

Loader = Callable[[Path, int | None], ImageDataset]
"""Takes a path that exists and may be read, and the side to resize images to."""


@dataclass(frozen=True)
class _Entry:
    load: Loader
    origin: str
    """Where the files come from, for those who lack them."""
    needs_path: bool = True


_ENTRIES = {
    "digits": _Entry(lambda _, image_size: load_digits(image_size), "they come with scikit-learn", needs_path=False),
    "mnist": _Entry(
        load_mnist,
        "the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
        "t10k-labels-idx1-ubyte.gz are published at yann.lecun.com/exdb/mnist and its mirrors",
    ),
    "fashion_mnist": _Entry(
        load_fashion_mnist,
        "the four .gz files are published at github.com/zalandoresearch/fashion-mnist; Debian's package "
        "dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist",
    ),
    "cifar10": _Entry(load_cifar10, "the archives are published at www.cs.toronto.edu/~kriz/cifar.html"),
    "cifar100": _Entry(load_cifar100, "the archives are published at www.cs.toronto.edu/~kriz/cifar.html"),
    "stl10": _Entry(load_stl10, "stl10_binary.tar.gz is published at cs.stanford.edu/~acoates/stl10"),
    "medmnist": _Entry(load_medmnist, "the .npz files are published at medmnist.com"),
    "image_folder": _Entry(
        load_image_folder,
        "path names a folder or a .tar, .tar.gz or .tar.xz archive with train/<class>/* and, if there are test "
        "images, test/<class>/*",
    ),
    "npz": _Entry(
        load_npz, "path names a file that numpy.savez wrote with train_images, train_labels, test_images, test_labels"
    ),
}

_Key = tuple[str, Path | None, int | None, int, str | None]
_last: tuple[_Key, ImageDataset] | None = None


def dataset_names() -> list[str]:
    """Every name `load_dataset` takes."""
    return sorted(_ENTRIES)


def load_dataset(name: str, *, path: str | Path | None = None, image_size: int | None = None) -> ImageDataset:
    """The data set of that name, on the CPU. Treat its tensors as read-only: they are shared.

    Args:
        name: one of `dataset_names`.
        path: file or folder of the data, inside the data roots if there are any; see docs/data.md for each set.
        image_size: side in pixels of the central square that images are resized to. None: as they are.

    Raises:
        DataError: no set has that name, or its files are missing, truncated or not what they should be.
    """
    global _last  # noqa: PLW0603 - the one set that is kept
    if name not in _ENTRIES:
        raise DataError(f"no data set is called {name!r}; known are {', '.join(dataset_names())}")
    entry = _ENTRIES[name]
    try:
        place = _place(entry, path)
        key = (name, place, image_size, _changed(place), os.environ.get(MEMORY_VARIABLE))
        if _last is None or _last[0] != key:
            _last = None  # before the next is read: there may be no room for both
            _last = key, entry.load(place or Path(), image_size)
        return _last[1]
    except DataError as error:
        raise DataError(f"data set {name}: {error}" + (f" ({entry.origin})" if entry.origin else "")) from error


def _place(entry: _Entry, path: str | Path | None) -> Path | None:
    if not entry.needs_path:
        if path is not None:
            raise DataError("it takes no path")
        return None
    if path is None:
        raise DataError("it needs path, the file or folder of the data")
    return resolve(os.fspath(path))


def _changed(place: Path | None) -> int:
    """A number that changes with the times and sizes of the file or folder and of what lies in it, to the classes.

    Single images of a folder are not looked at: that would take as long as listing the set.
    """
    if place is None:
        return 0
    found = place.stat()
    return hash((found.st_mtime_ns, found.st_size, *sorted(_changes_below(place, levels=2))))


def _changes_below(folder: Path, levels: int) -> Iterator[tuple[str, int, int]]:
    if not levels or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            yield entry.path, found.st_mtime_ns, found.st_size
            if entry.is_dir(follow_symlinks=False):
                yield from _changes_below(Path(entry.path), levels - 1)
