"""Writes tiny data sets in the published formats, for the tests of reading them."""

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def pixels(n: int, side: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(n, side, side, channels) uint8 of noise."""
    return np.random.RandomState(seed).randint(0, 256, (n, side, side, channels), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_set(folder: Path, n: int = 20, m: int = 10, side: int = 8, *, gz: bool = True) -> dict[str, np.ndarray]:
    """The four files of MNIST. Returns their arrays."""
    arrays = {}
    for part, count in (("train", n), ("t10k", m)):
        arrays[f"{part}-images-idx3-ubyte"] = pixels(count, side, 1, seed=count)[..., 0]
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx(array)
        (folder / (name + ".gz" if gz else name)).write_bytes(gzip.compress(data) if gz else data)
    return arrays


def python2_pickle(value: Any) -> bytes:
    """What cPickle of Python 2 wrote for CIFAR's batches: protocol 2, byte strings, arrays of numpy.core."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(k) + _python2(v) for k, v in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _python2((0,)) + _python2(b"b") + b"tR"
    dtype = (
        b"cnumpy\ndtype\n" + _python2((b"u1", 0, 1)) + b"R" + _python2((3, b"|", None, None, None, -1, -1, 0)) + b"b"
    )
    state = b"(K\x01" + _python2(value.shape) + dtype + b"\x89" + _python2(value.tobytes()) + b"t"
    return made + state + b"b"


def cifar_files(per_batch: int, *, classes: int, version: str) -> dict[str, bytes]:
    """The files of CIFAR-10 or -100 in its Python or binary version, by path inside the archive."""
    hundred = classes == 100
    names = ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    folder = {10: {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}}.get(
        classes, {"python": "cifar-100-python", "binary": "cifar-100-binary"}
    )[version]
    files = {}
    for number, name in enumerate(names):
        data = pixels(per_batch, 32, seed=number).reshape(per_batch, -1)
        labels = [(number + i) % classes for i in range(per_batch)]
        coarse = [label // 5 for label in labels]
        if version == "python":
            batch = {b"data": data, b"filenames": [b"a.png"] * per_batch, b"batch_label": b"batch"}
            batch |= {b"fine_labels": labels, b"coarse_labels": coarse} if hundred else {b"labels": labels}
            files[f"{folder}/{name}"] = python2_pickle(batch)
        else:
            heads = [bytes([c, f]) if hundred else bytes([f]) for c, f in zip(coarse, labels, strict=True)]
            rows = [head + row.tobytes() for head, row in zip(heads, data, strict=True)]
            files[f"{folder}/{name}.bin"] = b"".join(rows)
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_tar(path: Path, files: Mapping[str, bytes], *extra: tarfile.TarInfo) -> Path:
    """A tar archive, compressed as its name says; extra members have no content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def encoded(array: np.ndarray, file_format: str = "PNG") -> bytes:
    """An image file of (H, W, 3) or (H, W) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, file_format)
    return buffer.getvalue()


def image_files(
    train: int = 12, test: int = 4, side: int = 8, classes: tuple[str, ...] = ("cat", "dog")
) -> dict[str, bytes]:
    """PNG files of noise by path: so many of each class."""
    files = {}
    for split, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            images = pixels(count, side, seed=100 * number + count)
            files |= {f"{split}/{name}/{i:04}.png": encoded(image) for i, image in enumerate(images)}
    return files


def medmnist_arrays(channels: int = 3) -> dict[str, np.ndarray]:
    """The arrays of a MedMNIST file."""
    arrays = {}
    for number, (part, count) in enumerate((("train", 12), ("val", 3), ("test", 5))):
        images = pixels(count, 28, channels, seed=number)
        arrays[f"{part}_images"] = images if channels == 3 else images[..., 0]
        arrays[f"{part}_labels"] = (np.arange(count) % 4).astype(np.uint8)[:, None]
    return arrays
