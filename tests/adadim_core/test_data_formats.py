"""Published formats: what is in the files comes out; missing, damaged and hostile files are refused with a reason."""

import gzip
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sets import cifar_files, idx, medmnist_arrays, pixels, python2_pickle, write_files, write_idx_set, write_tar

from adadim_core.data import UNLABELLED, DataError, cifar, load_dataset, stl10
from adadim_core.data.batch_pickle import read_batch


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files(tmp_path, name, gz):
    arrays = write_idx_set(tmp_path, gz=gz)
    data = load_dataset(name, path=tmp_path)
    assert data.name == name
    assert data.train_images.shape == (20, 1, 8, 8)
    assert np.array_equal(data.train_images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(data.test_images[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert data.train_labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert data.train_labels.dtype == torch.int64
    assert data.augmentation.grayscale == data.augmentation.solarize == 0
    assert data.augmentation.flip == (0.5 if name == "fashion_mnist" else 0)


def test_idx_names_with_a_dot_and_image_size(tmp_path):
    for name, array in write_idx_set(tmp_path, gz=False).items():
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
        assert array.size
    assert load_dataset("mnist", path=tmp_path, image_size=16).train_images.shape == (20, 1, 16, 16)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data + b"x", "damaged"),
        (lambda data: b"<html>not found</html>", "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
        (lambda data: data[:4] + struct.pack(">3I", 2**31, 2**20, 2**20), "more than such a set has"),
    ],
    ids=["short", "long", "other", "empty", "huge"],
)
def test_damaged_idx_files(tmp_path, damage, reason):
    write_idx_set(tmp_path, gz=False)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=reason) as raised:
        load_dataset("mnist", path=tmp_path)
    assert str(file) in str(raised.value)


def test_idx_files_may_be_links_to_files_of_any_name(tmp_path):
    write_idx_set(tmp_path / "set")
    linked = tmp_path / "linked"
    linked.mkdir()
    for number, file in enumerate(sorted((tmp_path / "set").iterdir())):
        (tmp_path / f"blob{number}").write_bytes(file.read_bytes())
        (linked / file.name).symlink_to(tmp_path / f"blob{number}")
    one, other = load_dataset("mnist", path=tmp_path / "set"), load_dataset("mnist", path=linked)
    assert torch.equal(one.train_images, other.train_images)


def test_a_pickle_cannot_claim_memory(tmp_path):
    hostile = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
    with pytest.raises(DataError, match="not a CIFAR batch"):
        read_batch(hostile, "data_batch_1", b"labels")


def test_truncated_gzip_and_missing_idx_files(tmp_path):
    write_idx_set(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        load_dataset("mnist", path=tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=rf"{tmp_path} has no train-images-idx3-ubyte.*Debian"):
        load_dataset("fashion_mnist", path=tmp_path)
    with pytest.raises(DataError, match=rf"there is no {tmp_path}/absent.*lecun"):
        load_dataset("mnist", path=tmp_path / "absent")


def test_labels_that_do_not_fit_the_images(tmp_path):
    write_idx_set(tmp_path, gz=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(DataError, match="train-images: 20 images but 19 labels"):
        load_dataset("mnist", path=tmp_path)


@pytest.fixture
def _small_cifar(monkeypatch):
    monkeypatch.setattr(cifar, "TRAIN_IMAGES", 20)
    monkeypatch.setattr(cifar, "TEST_IMAGES", 4)


def cifar_set(classes: int, version: str) -> dict[str, bytes]:
    files = cifar_files(4, classes=classes, version=version)
    if classes == 100:  # one training file, five times as long
        long = cifar_files(20, classes=classes, version=version)
        files |= {name: data for name, data in long.items() if "train" in name}
    return files


@pytest.mark.usefixtures("_small_cifar")
@pytest.mark.parametrize("where", ["folder", "parent", "archive", "packed in folder"])
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_wherever_and_however_it_lies(tmp_path, classes, version, where):
    files = cifar_set(classes, version)
    archive = f"cifar-{classes}-{version}.tar.gz"
    if where in ("folder", "parent"):
        path = write_files(tmp_path, files)
        path = path / next(iter(files)).split("/")[0] if where == "folder" else path
    else:
        path = write_tar(tmp_path / archive, files)
        path = path if where == "archive" else tmp_path
    data = load_dataset(f"cifar{classes}", path=path)
    assert data.train_images.shape == (20, 3, 32, 32)
    assert data.test_images.shape == (4, 3, 32, 32)
    last = 1 if classes == 100 else 5
    expected = pixels(4, 32, seed=last).reshape(4, 3, 32, 32)  # rows hold one channel after the other
    assert np.array_equal(data.test_images.numpy(), expected)
    assert data.test_labels.tolist() == [last, last + 1, last + 2, last + 3]
    assert data.augmentation.flip == 0.5
    assert data.augmentation.grayscale > 0


@pytest.mark.usefixtures("_small_cifar")
def test_incomplete_and_truncated_cifar(tmp_path):
    write_files(tmp_path, cifar_set(10, "binary"))
    folder = tmp_path / "cifar-10-batches-bin"
    batch = folder / "data_batch_3.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-3073])
    with pytest.raises(DataError, match=r"\(19, 3072\), not \(20, 3072\)"):
        load_dataset("cifar10", path=folder)
    batch.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3.bin is truncated"):
        load_dataset("cifar10", path=folder)
    batch.unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_3.bin: .*cifar-10-python.tar.gz.*toronto"):
        load_dataset("cifar10", path=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="lacks data_batch_1, data_batch_2"):
        load_dataset("cifar10", path=tmp_path / "empty")
    archive = write_tar(tmp_path / "cifar-10-python.tar.gz", cifar_set(10, "python"))
    for damaged in (archive.read_bytes()[:-500], gzip.compress(b"not a tar"), b"plain", b""):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
            load_dataset("cifar10", path=archive)


class _Command:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_cannot_call_anything(tmp_path):
    marker = tmp_path / "called"
    hostile = [
        pickle.dumps({b"data": _Command(marker), b"labels": [0]}, protocol=2),
        pickle.dumps(_Command(marker), protocol=0),
        pickle.dumps(_Command(marker), protocol=5),
        b'cbuiltins\neval\n(S\'open("%s", "w")\'\ntR.' % os.fsencode(marker),
        b"(S'touch %s'\nios\nsystem\n." % os.fsencode(marker),
        b"cnumpy\ndtype.__init__\n.",
        b"cnumpy.core.multiarray\nfromfile\n(S'/etc/passwd'\ntR.",
        b"Ppersistent\n.",
        pickle.dumps({b"data": np.zeros((1, 3072), object), b"labels": [0]}, protocol=2),
    ]
    for data in hostile:
        with pytest.raises(DataError, match="not a CIFAR batch"):
            read_batch(data, "batch", b"labels")
    assert not marker.exists()


def test_a_pickle_cannot_exhaust_memory_or_crash_numpy():
    array = python2_pickle({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]})
    assert read_batch(array, "batch", b"labels")[0].shape == (2, 3072)
    hostile = [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x04\x96" + struct.pack("<Q", 2**62) + b".",
        b"\x80\x02T\xff\xff\xff\x7f.",
        array[: len(array) // 2],
        array.replace(b"u1", b"O8"),
        array.replace(struct.pack("<i", 3072), struct.pack("<i", 3073)),
        python2_pickle({b"data": b"x" * 3072, b"labels": [1]}),
        python2_pickle([1, 2]),
        b"",
    ]
    for data in hostile:
        with pytest.raises(DataError, match="batch is truncated, damaged or not a CIFAR batch"):
            read_batch(data, "batch", b"labels")


@pytest.fixture
def _small_stl(monkeypatch):
    for name, count in (("TRAIN_IMAGES", 10), ("TEST_IMAGES", 4), ("UNLABELLED_IMAGES", 6)):
        monkeypatch.setattr(stl10, name, count)


def stl_files() -> dict[str, bytes]:
    files = {}
    for number, (part, count) in enumerate((("train", 10), ("test", 4), ("unlabeled", 6))):
        columns_first = pixels(count, 96, seed=number).transpose(0, 3, 2, 1)
        files[f"stl10_binary/{part}_X.bin"] = np.ascontiguousarray(columns_first).tobytes()
        if part != "unlabeled":
            files[f"stl10_binary/{part}_y.bin"] = (np.arange(count) % 10 + 1).astype(np.uint8).tobytes()
    return files


@pytest.mark.usefixtures("_small_stl")
@pytest.mark.parametrize("packed", [True, False])
def test_stl10_trains_on_all_and_classifies_by_the_labelled(tmp_path, packed):
    path = write_tar(tmp_path / "stl10_binary.tar.gz", stl_files()) if packed else write_files(tmp_path, stl_files())
    data = load_dataset("stl10", path=path)
    assert data.train_images.shape == (16, 3, 96, 96)
    assert np.array_equal(data.train_images[:10].permute(0, 2, 3, 1).numpy(), pixels(10, 96, seed=0))
    assert np.array_equal(data.train_images[10:].permute(0, 2, 3, 1).numpy(), pixels(6, 96, seed=2))
    assert data.train_labels.tolist() == [*range(10), *[UNLABELLED] * 6]
    assert data.labelled_rows.tolist() == list(range(10))
    assert data.test_labels.tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("_small_stl")
def test_stl10_without_unlabelled_images_and_truncated(tmp_path):
    files = stl_files()
    del files["stl10_binary/unlabeled_X.bin"]
    write_files(tmp_path, files)
    assert load_dataset("stl10", path=tmp_path / "stl10_binary").train_images.shape == (10, 3, 96, 96)
    (tmp_path / "stl10_binary/test_X.bin").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"test_X.bin is truncated.*100 bytes"):
        load_dataset("stl10", path=tmp_path)
    (tmp_path / "stl10_binary/test_y.bin").unlink()
    with pytest.raises(DataError, match=r"lacks test_y.bin.*stanford"):
        load_dataset("stl10", path=tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [1, 3])
def test_medmnist(tmp_path, channels, save):
    arrays = medmnist_arrays(channels)
    save(tmp_path / "pathmnist.npz", **arrays)
    data = load_dataset("medmnist", path=tmp_path / "pathmnist.npz")
    assert data.train_images.shape == (12, channels, 28, 28)
    expected = arrays["train_images"] if channels == 3 else arrays["train_images"][..., None]
    assert np.array_equal(data.train_images.permute(0, 2, 3, 1).numpy(), expected)
    assert data.test_labels.tolist() == arrays["test_labels"][:, 0].tolist()
    assert data.augmentation.flip == 0


def test_npz_in_either_order_with_unlabelled_rows(tmp_path):
    arrays = {key: value for key, value in medmnist_arrays().items() if not key.startswith("val")}
    arrays["train_images"] = np.asfortranarray(arrays["train_images"])
    arrays["train_labels"] = np.array([-1, *range(11)], dtype=">i4")
    np.savez(tmp_path / "set.npz", **arrays)
    data = load_dataset("npz", path=tmp_path / "set.npz")
    assert np.array_equal(data.train_images.permute(0, 2, 3, 1).numpy(), arrays["train_images"])
    assert data.train_labels.tolist() == [-1, *range(11)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train_images": None}, "lacks train_images; it has test_images"),
        ({"train_images": np.zeros((12, 28, 28, 3), np.float32)}, "float32, not uint8"),
        ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, r"shape \(12, 28, 28, 28\)"),
        ({"train_images": np.zeros((0, 28, 28), np.uint8)}, r"shape \(0, 28, 28\)"),
        ({"test_images": np.zeros((5, 20, 20, 3), np.uint8)}, r"28 x 28.*20 x 20.*image_size"),
        ({"train_labels": np.full((12, 14), 2, np.uint8)}, "zeros and ones, a column for each"),
        ({"train_labels": np.full(12, 0.5)}, "one whole number"),
        ({"train_labels": np.zeros((12, 2, 2), int)}, "one whole number"),
        ({"train_labels": np.full(12, 10**9)}, "train_labels go from 1000000000"),
        ({"test_labels": np.full(5, -2)}, "test_labels go from -2"),
        ({"test_labels": np.array(list("abcde"))}, "must all be numbers, or all be one name"),
        ({"train_labels": np.array([print] * 12, dtype=object)}, "Python objects, which are not read"),
    ],
)
def test_npz_files_that_are_no_image_sets(tmp_path, change, reason):
    arrays = {key: value for key, value in (medmnist_arrays() | change).items() if value is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=reason):
        load_dataset("npz", path=tmp_path / "set.npz")


def test_npz_bombs_and_damage(tmp_path, monkeypatch):
    path = tmp_path / "set.npz"
    many = {"train_labels": np.arange(15_000) % 4}
    zeros = {"train_images": np.zeros((15_000, 28, 28), np.uint8)}
    np.savez_compressed(path, **(medmnist_arrays() | many | zeros))
    with pytest.raises(DataError, match=r"expands to more than 100 times its \d+ bytes"):
        load_dataset("npz", path=path)
    noise = {"train_images": np.random.default_rng(0).integers(0, 2, (15_000, 28, 28), np.uint8)}
    np.savez_compressed(path, **(medmnist_arrays() | many | noise))
    monkeypatch.setenv("ADADIM_DATA_MEMORY", "10M")
    with pytest.raises(DataError, match=r"train_images.npy has 11\.\d MiB, compressed, and 10\.0 MiB.*numpy.savez"):
        load_dataset("npz", path=path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("train_images", "train_labels", "test_images", "test_labels"):
            archive.writestr(f"{key}.npy", header.getvalue())
    with pytest.raises(DataError, match=r"train_labels.npy is truncated or damaged"):
        load_dataset("npz", path=path)
    np.savez(path, **medmnist_arrays())
    for damaged in (path.read_bytes()[:-30], b"text", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"set.npz is truncated, damaged or not an .npz file"):
            load_dataset("npz", path=path)


@pytest.mark.usefixtures("_small_cifar")
@pytest.mark.parametrize("file", ["data_batch_3.bin", "test_batch.bin"])
def test_cifar_labels_beyond_the_classes_are_damage(tmp_path, file):
    files = cifar_set(10, "binary")
    name = f"cifar-10-batches-bin/{file}"
    files[name] = bytes([10]) + files[name][1:]
    with pytest.raises(DataError, match="to 10, not 0 to 9"):
        load_dataset("cifar10", path=write_files(tmp_path, files))
