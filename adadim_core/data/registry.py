"""Data sets by name. Owns how each is read, and keeps the last set, so that trials one after the other read it once.

What is known of a set without its files is in adadim_core/spec/datasets.py.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from adadim_core.data.assembly import BadFiles, assemble, check_shapes
from adadim_core.data.cifar import load_cifar10, load_cifar100
from adadim_core.data.dataset import ImageDataset
from adadim_core.data.digits import load_digits
from adadim_core.data.errors import DataError
from adadim_core.data.idx import load_fashion_mnist, load_mnist
from adadim_core.data.image_folder import load_image_folder
from adadim_core.data.memory import MEMORY_VARIABLE
from adadim_core.data.npz import load_medmnist, load_npz
from adadim_core.data.raw import RawDataset
from adadim_core.data.roots import resolve
from adadim_core.data.stl10 import load_stl10
from adadim_core.spec.datasets import DATASETS, Dataset

Loader = Callable[[Path, int | None], RawDataset]
"""Takes a path that exists and may be read, and the side to resize images to."""


_LOADERS: dict[str, Loader] = {
    "digits": lambda _, image_size: load_digits(image_size),
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "stl10": load_stl10,
    "medmnist": load_medmnist,
    "image_folder": load_image_folder,
    "npz": load_npz,
}

_Key = tuple[str, Path | None, int | None, int, str | None, str]
Role = Literal["trained on", "transferred to"]
_last: dict[Role, tuple[_Key, ImageDataset]] = {}


def dataset_names() -> list[str]:
    """Every name `load_dataset` takes."""
    return sorted(_LOADERS)


def load_dataset(
    name: str,
    *,
    path: str | Path | None = None,
    image_size: int | None = None,
    bad_files: BadFiles = "fail",
    role: Role = "trained on",
) -> ImageDataset:
    """The data set of that name, on the CPU. Treat its tensors as read-only: they are shared.

    Args:
        name: one of `dataset_names`.
        path: file or folder of the data, inside the data roots if there are any; see docs/data.md for each set.
        image_size: side in pixels of the central square that images are resized to. None: as they are.
        bad_files: what to do about image files that cannot be decoded: fail, or skip at most 1 % of them.
        role: what the set is for; the last set of each role is kept.

    Raises:
        DataError: no set has that name, or its files are missing, truncated or malformed.
    """
    with _naming_set(name):
        about = DATASETS[name]
        place = _place(about, path)
        key = (name, place, image_size, _changed(place), os.environ.get(MEMORY_VARIABLE), bad_files)
        if role not in _last or _last[role][0] != key:
            _last.pop(role, None)  # before the next is read: there may be no room for both
            raw = _LOADERS[name](place or Path(), image_size)
            _last[role] = key, assemble(raw, path=str(place) if place else None, bad_files=bad_files)
        return _last[role][1]


def read_raw(name: str, *, path: str | Path | None = None, image_size: int | None = None) -> RawDataset:
    """A loader's result, before more than a few images are decoded. Arguments as for `load_dataset`."""
    with _naming_set(name):
        return _LOADERS[name](_place(DATASETS[name], path) or Path(), image_size)


def check_source(name: str, *, path: str | Path | None = None, image_size: int | None = None) -> None:
    """Look whether a set can be read, by its names, sizes and headers. Arguments as for `load_dataset`.

    Raises:
        DataError: it cannot, for a reason that shows before its images are decoded.
    """
    with _naming_set(name):
        raw = _LOADERS[name](_place(DATASETS[name], path) or Path(), image_size)
        check_shapes(raw)
        if image_size is None and raw.sizes is not None and raw.sizes.smallest != raw.sizes.largest:
            smallest, largest = (f"{width} x {height}" for width, height in (raw.sizes.smallest, raw.sizes.largest))
            raise DataError(f"the files have different sizes, {smallest} to {largest}; set data.image_size")


@contextmanager
def _naming_set(name: str) -> Iterator[None]:
    """Adds the name of the set and the source of its files to a DataError."""
    if name not in _LOADERS:
        raise DataError(f"no data set is called {name!r}; known are {', '.join(dataset_names())}")
    try:
        yield
    except DataError as error:
        raise DataError(f"data set {name}: {error} ({DATASETS[name].origin})") from error


def _place(about: Dataset, path: str | Path | None) -> Path | None:
    if not about.needs_path:
        if path is not None:
            raise DataError("it takes no path")
        return None
    if path is None:
        raise DataError("it needs path, the file or folder of the data")
    return resolve(os.fspath(path))


def _changed(place: Path | None) -> int:
    """A number that changes with the times and sizes of the file or folder and of its content, down to the classes.

    Single images of a folder do not count: checking them would take as long as listing the set.
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
