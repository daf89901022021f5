"""A folder or tar archive of image files: `train/<class>/...` and `test/<class>/...` (or `val`).

Without test images a tenth of each class is held out, always the same. Classes are numbered in the order of their
names. A folder and an archive with the same files are the same data set.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from adadim_core.data import recipes
from adadim_core.data.archives import Member, is_compressed, tar_members
from adadim_core.data.assembly import assemble, hold_out
from adadim_core.data.dataset import ImageDataset
from adadim_core.data.errors import DataError
from adadim_core.data.files import MAX_BYTES, FileImages, Files, FolderFiles, HeldFiles, Names, TarFiles, count_channels
from adadim_core.data.memory import memory_limit, size_text
from adadim_core.data.pixels import SUFFIXES
from adadim_core.data.roots import check_inside

_HELD_OUT = 0.1
_TRAIN, _TESTS = "train", ("test", "val")


class _Place(NamedTuple):
    """Where an image lies among the others: `split/class_name/name`."""

    split: str
    class_name: str
    name: str


_Found = tuple[_Place, Member, bytes]


class _Index:
    """Names and labels of the files, training images first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names = Names()
        self.classes: dict[str, int] = {}
        self._labels, self._test = array("q"), array("b")

    def add(self, split: str, class_name: str, name: str) -> None:
        if split == _TRAIN:
            self.classes.setdefault(class_name, len(self.classes))
        elif class_name not in self.classes:
            raise DataError(f"{self._path} has {split} images of {class_name!r}, a class without training images")
        self.names.append(f"{split}/{class_name}/{name}")
        self._labels.append(self.classes[class_name])
        self._test.append(split != _TRAIN)

    def dataset(self, files: Files, image_size: int | None) -> ImageDataset:
        if not len(files):
            endings = ", ".join(sorted(SUFFIXES))
            raise DataError(f"{self._path} holds no image: they must lie in train/<class>/ and end in one of {endings}")
        labels = np.frombuffer(self._labels, np.int64)
        test = np.frombuffer(self._test, np.bool_)
        if not test.any():
            test = hold_out(labels, _HELD_OUT)
        channels = count_channels(files)
        train_rows, test_rows = np.flatnonzero(~test), np.flatnonzero(test)
        train, other = (FileImages(files, rows, channels, image_size) for rows in (train_rows, test_rows))
        recipe = recipes.photos(channels, max(train.shape[2:]))
        return assemble("image_folder", train, labels[train_rows], other, labels[test_rows], recipe)


def load_image_folder(path: Path, image_size: int | None) -> ImageDataset:
    index = _Index(path)
    if path.is_dir():
        files = _list_folder(path, index)
    elif is_compressed(path) or not hasattr(os, "pread"):
        files = _hold_archive(path, index)
    else:
        files = _list_archive(path, index)
    return index.dataset(files, image_size)


def _list_folder(path: Path, index: _Index) -> Files:
    if not (path / _TRAIN).is_dir():
        raise DataError(f"{path} has no folder {_TRAIN!r}")
    _list_split(path, _TRAIN, index)
    trained = len(index.names)
    for split in _TESTS:
        # A test folder may hold images without classes, beside validation images with them.
        if len(index.names) == trained and (path / split).is_dir():
            _list_split(path, split, index)
    return FolderFiles(path, index.names)


def _list_split(path: Path, split: str, index: _Index) -> None:
    for class_name in sorted(_subfolders(path / split)):
        for name in sorted(_images_below(path / split / class_name, "")):
            index.add(split, class_name, name)


def _subfolders(folder: Path) -> Iterator[str]:
    check_inside(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                check_inside(Path(entry.path))
                yield entry.name


def _images_below(folder: Path, prefix: str) -> Iterator[str]:
    """Names relative to the class. Links to images are followed where they may be, links to folders are not."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    yield from _images_below(folder / entry.name, f"{prefix}{entry.name}/")
            elif _is_image(entry.name) and entry.is_file():
                if entry.is_symlink():
                    check_inside(Path(entry.path))
                yield prefix + entry.name


def _list_archive(path: Path, index: _Index) -> Files:
    offsets, sizes = array("q"), array("q")
    for place, member, _ in _in_order((place, member, b"") for place, member, _ in _archived_images(path)):
        index.add(*place)
        offsets.append(member.offset)
        sizes.append(member.size)
    return TarFiles(path, index.names, offsets, sizes)


def _hold_archive(path: Path, index: _Index) -> Files:
    """The archive's files in memory: a compressed archive can only be read from its beginning."""
    found, left = [], memory_limit()
    for place, member, read in _archived_images(path):
        left -= member.size
        if left < 0:
            raise DataError(
                f"the images in {path} take more than the {size_text(memory_limit())} that may be held in memory: "
                "unpack it, or make it a .tar without compression, so that they can be read one by one"
            )
        found.append((place, member, read()))
    contents = []
    for place, _, content in _in_order(found):
        index.add(*place)
        contents.append(content)
    return HeldFiles(path, index.names, contents)


def _archived_images(path: Path) -> Iterator[tuple[_Place, Member, Callable[[], bytes]]]:
    """Split, class and name of each image of the archive, which may have one folder around everything."""
    for member, read in tar_members(path):
        place = _place(member.parts)
        if place is None:
            continue
        if member.size > MAX_BYTES:
            raise DataError(f"{'/'.join(member.parts)} in {path} has more than {MAX_BYTES} bytes")
        yield place, member, read


def _place(parts: tuple[str, ...]) -> _Place | None:
    for start in (0, 1):
        split, *rest = parts[start:] or ("",)
        if split in (_TRAIN, *_TESTS) and len(rest) >= 2:
            hidden = any(part.startswith(".") for part in rest)
            return None if hidden or not _is_image(rest[-1]) else _Place(split, rest[0], "/".join(rest[1:]))
    return None


def _in_order(found: Iterable[_Found]) -> list[_Found]:
    """As the files of a folder are listed. Validation images are left out where there are test images."""
    listed = sorted(found, key=lambda entry: (entry[0].split != _TRAIN, entry[0]))
    splits = {place.split for place, _, _ in listed}
    return [entry for entry in listed if entry[0].split != "val" or "test" not in splits]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES
