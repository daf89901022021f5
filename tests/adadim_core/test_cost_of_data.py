"""A data file of 64 KiB costs under 50 ms of a processor and 20 MB, whatever is in it, or is refused."""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.cost_of_reading import KILOBYTES, costs, mutations, unbounded

SIZE = KILOBYTES * 1024


def packed_npz(**members: bytes) -> bytes:
    """A compressed .npz of raw members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def npy(shape: tuple[int, ...], kind: str = "|u1", data: bytes | None = None, header: str | None = None) -> bytes:
    text = header or f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + (bytes(size) if data is None else data)


def npz_files() -> tuple[bytes, dict[str, bytes]]:
    rng = np.random.default_rng(0)
    ordinary = io.BytesIO()
    images = rng.integers(0, 255, (40, 8, 8), np.uint8)
    np.savez_compressed(ordinary, train_images=images, train_labels=np.arange(40) % 4)
    small = npy((40, 8, 8))
    huge = npy((60_000, 28, 28))
    return ordinary.getvalue(), {
        "images that expand a thousand times": packed_npz(train_images=huge),
        "labels that expand": packed_npz(train_images=small, train_labels=npy((15_000_000,))),
        "long labels": packed_npz(train_images=small, train_labels=npy((4_000_000,), "<i4")),
        "names for labels": packed_npz(train_images=small, train_labels=npy((100_000,), "<U40")),
        "wide labels": packed_npz(train_images=small, train_labels=npy((40, 100_000))),
        "deep header": packed_npz(train_images=npy((1,), header="[" * 4_000 + "]" * 4_000)),
        "long header": packed_npz(train_images=npy((1,), header="{" + "'a': 1, " * 1_200 + "}")),
        "many members": packed_npz(**{f"a{n}": b"" for n in range(500)}),
        **mutations(ordinary.getvalue(), 40, 1),
    }


def batches() -> tuple[bytes, dict[str, bytes]]:
    """Pickles. `laughs` refers to the same list again and again: 2^n elements in n bytes."""
    pixels = np.zeros((10, 3072), np.uint8)
    ordinary = pickle.dumps({b"data": pixels, b"labels": [n % 10 for n in range(10)]}, protocol=3)
    laughs = (
        b"\x80\x02}(U\x04data]q\x00U\x06labels"
        + b"".join(b"]q%c(%s" % (n, b"h%c" % (n - 1) * 50) + b"e" for n in range(1, 30))
        + b"u."
    )
    keys = b"\x80\x02}(" + b"(" * 20_000 + b"t" * 20_000 + b"K\x01u."
    return ordinary, {
        "nested references": laughs,
        "tuples for keys": keys,
        "empty lists": b"\x80\x02" + b"]" * (SIZE - 3) + b".",
        "nothing": b"\x80\x02" + b"N0" * (SIZE // 2 - 2) + b"N.",
        "deep tuples": b"\x80\x02N" + b"\x85" * (SIZE - 4) + b".",
        "long number": b"L" + b"9" * (SIZE - 4) + b"L\n.",
        "byte array of gigabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b".",
        "string of gigabytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**33) + b".",
        "a large memo": b"\x80\x02N" + b"r\xff\xff\xff\x7f" * (SIZE // 5 - 2) + b".",
        "labels": pickle.dumps({b"data": pixels[:1], b"labels": [1] * 30_000}, protocol=3),
        "a call": b"cos\nsystem\n(S'true'\ntR.",
        **mutations(ordinary, 60, 2),
    }


def tar_of(*members: tuple[str, int]) -> bytes:
    """A tar of zeros."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    return file.getvalue()


def archives() -> tuple[bytes, dict[str, bytes]]:
    ordinary = gzip.compress(tar_of(("a/1.png", 900), ("b/2.png", 900)))
    zeros = tar_of(("a/1.png", 60 * 2**20))
    endless = bytes(60 * 2**20)
    found: dict[str, bytes] = {}
    for name, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)):
        found[f"{name} of a large member"] = pack(zeros)[:SIZE]
        found[f"{name} of nothing"] = pack(endless)[:SIZE]
        found[f"{name} of many members"] = pack(tar_of(*((f"{n}.png", 0) for n in range(20_000))))[:SIZE]
    long_name = tarfile.TarInfo("x" * 50_000).tobuf(tarfile.GNU_FORMAT)
    claims = bytearray(tar_of(("a/1.png", 900)))
    claims[124:136] = b"77777777777\0"
    return ordinary, found | {
        "a long name": long_name,
        "many members": tar_of(*((f"{n}.png", 0) for n in range(100))),
        "claims gigabytes": bytes(claims),
        **mutations(tar_of(("a/1.png", 900), ("b/2.png", 900)), 40, 3),
        **{f"gzip {name}": data for name, data in mutations(ordinary, 40, 4).items()},
    }


def idx_files() -> tuple[bytes, dict[str, bytes]]:
    def idx(*shape: int, content: int) -> bytes:
        return bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + bytes(content)

    ordinary = gzip.compress(idx(10, 8, 8, content=640))
    return ordinary, {
        "bzip2 that expands": bz2.compress(idx(60_000, 28, 28, content=60_000 * 784))[:SIZE],
        "gzip that expands": gzip.compress(idx(60_000, 28, 28, content=60_000 * 784))[:SIZE],
        "claims too much": idx(2**31, 2**31, 2**31, content=10),
        **mutations(ordinary, 40, 5),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "files"),
    [("npz", npz_files), ("cifar_batch", batches), ("tar", archives), ("idx", idx_files)],
    ids=["npz", "pickle", "tar", "IDX"],
)
def test_a_data_file_costs_little_or_is_refused(tmp_path: Path, reader: str, files: object) -> None:
    ordinary, inputs = files()  # type: ignore[operator]
    assert max(map(len, inputs.values())) <= 2 * SIZE
    suffix = ".npz" if reader == "npz" else ""
    assert not unbounded(costs(f"tests.readers:{reader}", ordinary, inputs, tmp_path, suffix))
