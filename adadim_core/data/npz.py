"""Sets in one .npz file: MedMNIST, or any with train_images and, optionally, train_labels and a test part.

Images are (N, H, W) or (N, H, W, C) of unsigned bytes. Files of numpy.savez are read in place; compressed ones
(numpy.savez_compressed) are read into memory.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from adadim_core.augmentation import Augmentation
from adadim_core.data import recipes
from adadim_core.data.archives import check_expansion
from adadim_core.data.errors import DataError
from adadim_core.data.labels import is_labelled, read_all_labels, unlabelled
from adadim_core.data.memory import memory_limit, size_text
from adadim_core.data.raw import Part, RawDataset, split_parts
from adadim_core.data.sources import ArrayImages

_TRAIN, _TESTS = "train", ("test", "val")
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def load_npz(path: Path, image_size: int | None) -> RawDataset:
    return _load("npz", path, image_size, None)


def load_medmnist(path: Path, image_size: int | None) -> RawDataset:
    """A MedMNIST file. Its validation images are not used."""
    return _load("medmnist", path, image_size, recipes.SCANS)


def _load(name: str, path: Path, image_size: int | None, recipe: Augmentation | None) -> RawDataset:
    names = array_names(path)
    if f"{_TRAIN}_images" not in names:
        raise DataError(f"{path} lacks train_images; it has {', '.join(sorted(names)) or 'nothing'}")
    stems = [stem for stem in (_TRAIN, *_TESTS) if f"{stem}_labels" in names and f"{stem}_images" in names]
    given = read_arrays(path, [f"{stem}_labels" for stem in stems])
    for stem in stems:  # before anything is made of them: a few bytes compressed can be millions of labels
        shape, dtype = _declared(path, f"{stem}_images")
        _check_images(shape, dtype, f"{stem}_images")
        count = len(np.atleast_1d(given[f"{stem}_labels"]))
        if count != shape[0]:
            raise DataError(f"{stem}_images: {shape[0]} images but {count} labels")
    labels, class_names = read_all_labels(given)
    # Test images without labels serve nothing; validation images with labels do.
    labelled = [stem for stem in _TESTS if stem in stems and is_labelled(labels[f"{stem}_labels"])]
    read = [_TRAIN, *labelled[:1]]
    images = read_arrays(path, [f"{stem}_images" for stem in read])

    def part(stem: str) -> Part:
        array = _images(images[f"{stem}_images"], f"{stem}_images")
        known = labels.get(f"{stem}_labels", unlabelled(len(array)))
        return Part(ArrayImages(array, image_size), known, f"{stem}_images")

    train, test = split_parts(part(_TRAIN), part(labelled[0]) if labelled else None)
    used = {f"{stem}_{what}" for stem in (read if test is not None else [_TRAIN]) for what in ("images", "labels")}
    _, channels, height, width = train.images.shape
    return RawDataset(
        name,
        train,
        test,
        recipe or recipes.photos(channels, max(height, width)),
        class_names=class_names,
        unused=tuple(sorted(names - used)),
    )


def _images(array: NDArray[Any], key: str) -> NDArray[np.uint8]:
    _check_images(array.shape, array.dtype, key)
    return array[..., None] if array.ndim == 3 else array


def _check_images(shape: tuple[int, ...], dtype: np.dtype[Any], key: str) -> None:
    if dtype != np.uint8:
        raise DataError(f"{key} holds {dtype}, not uint8: scale the images to 0..255 and convert them")
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
        raise DataError(f"{key} has shape {shape}, not (N, H, W), (N, H, W, 1) or (N, H, W, 3)")


def array_names(path: Path) -> set[str]:
    """Names of the arrays in an .npz file. Raises DataError where it is none."""
    with _opened(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def read_arrays(path: Path, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """These arrays of an .npz file, mapped where the file is not compressed.

    Raises:
        DataError: one is missing, exceeds the memory limit or has Python objects, or the file is damaged.
    """
    with _opened(path) as archive:
        return {key: _array(path, archive, archive.getinfo(f"{key}.npy")) for key in keys}


def _declared(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, from its header."""
    with _opened(path) as archive, archive.open(f"{key}.npy") as file:
        shape, _, dtype = _header(file)
    return shape, dtype


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.is_dir():
        there = ", ".join(sorted(file.name for file in path.glob("*.npz"))[:5])
        raise DataError(f"{path} is a folder: path must name one .npz file{f', as {there}' if there else ''}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path} is truncated, damaged or not an .npz file: {error}") from error


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)
        begin = file.tell()
        if dtype.hasobject:
            raise DataError(f"{member.filename} holds Python objects, which are not read")
        size = math.prod(shape) * dtype.itemsize
        if member.file_size != begin + size:
            raise DataError(f"{member.filename} is truncated or damaged: it should have {begin + size} bytes")
        order: Literal["C", "F"] = "F" if fortran else "C"
        if member.compress_type == zipfile.ZIP_STORED and size:
            offset = _begin(path, member) + begin
            return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)
        check_expansion(path, size)
        if size > memory_limit():
            raise DataError(
                f"{member.filename} has {size_text(size)}, compressed, and {size_text(memory_limit())} may be held in "
                "memory: write the file anew with numpy.savez, which does not compress, so that it is read in place"
            )
        return np.frombuffer(file.read(), dtype).reshape(shape, order=order)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type. A header of more than 10,000 characters is refused."""
    read: Any = np.lib.format
    header = read.read_array_header_1_0 if read.read_magic(file) == (1, 0) else read.read_array_header_2_0
    return cast("tuple[tuple[int, ...], bool, np.dtype[Any]]", header(file))


def _begin(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: after a header whose length is not in the archive's directory."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        magic, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{member.filename} is not where the directory says")
    return int(member.header_offset + _LOCAL_HEADER.size + name + extra)
