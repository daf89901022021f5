"""Image files in folders and tar archives: the same set from each, sizes, splits, damage and traps."""

import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sets import encoded, image_files, pixels, write_files, write_idx_set, write_tar

from adadim_core.data import DataError, load_dataset
from adadim_core.data import pixels as pixels_module

FILES = image_files()
HELD_OUT = [1, 18, 21, 31]


def same(one, other) -> bool:
    tensors = ("train_images", "train_labels", "test_images", "test_labels")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and one.mean == other.mean


def test_what_is_in_the_files_comes_out_by_class_and_name(tmp_path):
    data = load_dataset("image_folder", path=write_files(tmp_path, FILES))
    assert data.train_images.shape == (24, 3, 8, 8)
    assert data.train_labels.tolist() == [0] * 12 + [1] * 12
    assert data.test_labels.tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(data.train_images[12:].permute(0, 2, 3, 1).numpy(), pixels(12, 8, seed=112))
    assert data.mean == pytest.approx((data.train_images.double() / 255).mean(dim=(0, 2, 3)).tolist())
    assert data.augmentation.grayscale > 0


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tar.xz", "set.tar.bz2", "named-otherwise"])
@pytest.mark.parametrize("prefix", ["", "./", "cifar/"])
def test_an_archive_is_the_same_set_as_its_folder(tmp_path, name, prefix):
    folder = load_dataset("image_folder", path=write_files(tmp_path / "folder", FILES))
    shuffled = sorted(FILES, key=lambda file: zlib.crc32(file.encode()))
    archive = write_tar(tmp_path / name, {prefix + file: FILES[file] for file in shuffled})
    assert same(load_dataset("image_folder", path=archive), folder)


def test_formats_modes_and_what_is_passed_over(tmp_path):
    image = pixels(1, 8)[0]
    modes = {
        "a.jpg": encoded(image, "JPEG"),
        "b.PNG": encoded(image),
        "c.webp": encoded(image, "WEBP"),
        "d.bmp": encoded(image, "BMP"),
        "e.tif": encoded(image, "TIFF"),
        "f.ppm": encoded(image, "PPM"),
        "g.png": encoded(image[..., 0]),
        "h.png": encoded(np.dstack([image, image[..., :1]])),
        "deeper/i.png": encoded(image),
    }
    ignored = {"Thumbs.db": b"x", "notes.txt": b"x", "._a.jpg": b"x", ".hidden/z.png": b"x", "j.heic": b"x"}
    files = {f"train/one/{name}": data for name, data in (modes | ignored).items()} | {"test/one/a.png": encoded(image)}
    folder = load_dataset("image_folder", path=write_files(tmp_path / "folder", files))
    assert folder.train_images.shape == (9, 3, 8, 8)
    lossless = [1, 2, 3, 5, 6, 8]  # in the order a, b, d..f, deeper, ...: by name
    exact = [bool((folder.train_images[i].permute(1, 2, 0).numpy() == image).all()) for i in range(9)]
    assert sum(exact) == len(lossless)
    assert same(load_dataset("image_folder", path=write_tar(tmp_path / "set.tar", files)), folder)


def test_grey_images_have_one_channel_and_no_hue(tmp_path):
    files = {name: encoded(pixels(1, 8, 1, seed=i)[0, ..., 0]) for i, name in enumerate(FILES)}
    data = load_dataset("image_folder", path=write_files(tmp_path, files))
    assert data.channels == 1
    assert data.augmentation.grayscale == 0


def test_images_of_different_sizes_need_image_size(tmp_path):
    files = FILES | {"train/dog/0005.png": encoded(pixels(1, 12)[0])}
    write_files(tmp_path, files)
    with pytest.raises(
        DataError, match=r"train/cat/0000.png is 8 x 8, .*train/dog/0005.png 12 x 12; set data.image_size"
    ):
        load_dataset("image_folder", path=tmp_path)
    assert load_dataset("image_folder", path=tmp_path, image_size=10).train_images.shape == (24, 3, 10, 10)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_resizing_takes_the_central_square(tmp_path, file_format):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (200, 100, 50)
    files = {f"{split}/one/a{i}.png": encoded(wide, file_format) for split in ("train", "test") for i in range(2)}
    data = load_dataset("image_folder", path=write_files(tmp_path, files), image_size=8)
    middle = data.train_images[0, :, 1:-1, 1:-1].float()
    assert (middle - torch.tensor([200.0, 100, 50])[:, None, None]).abs().max() < 4


def test_without_test_images_a_tenth_is_held_out_once_and_for_all(tmp_path):
    files = {name: data for name, data in image_files(train=20).items() if name.startswith("train")}
    data = load_dataset("image_folder", path=write_files(tmp_path, files))
    assert torch.bincount(data.test_labels).tolist() == [2, 2]
    assert torch.bincount(data.train_labels).tolist() == [18, 18]
    archive = write_tar(tmp_path / "set.tar.gz", files)
    assert same(load_dataset("image_folder", path=archive), data)
    images = np.concatenate([pixels(20, 8, seed=20), pixels(20, 8, seed=120)])
    rows = [int((images == x.permute(1, 2, 0).numpy()).all(axis=(1, 2, 3)).argmax()) for x in data.test_images]
    # A split that moves makes every stored accuracy incomparable.
    assert rows == HELD_OUT


@pytest.mark.parametrize("packed", [True, False])
def test_val_serves_where_there_is_no_test(tmp_path, packed):
    def load(files):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        path = write_tar(root / "set.tar", files) if packed else write_files(root, files)
        return load_dataset("image_folder", path=path)

    val = {name.replace("test/", "val/"): data for name, data in FILES.items()}
    assert same(load(val), load(FILES))
    assert same(load(FILES | val), load(FILES))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"readme.txt": b"x"}, "train"),
        ({"train/cat/readme.txt": b"x"}, r"holds no image.*train/<class>/.*\.jpg"),
        (FILES | {"test/cow/0.png": FILES["test/cat/0000.png"]}, "'cow', a class without training images"),
        (FILES | {"train/cat/0003.png": FILES["train/cat/0003.png"][:-100]}, r"train/cat/0003.png.* cannot be decoded"),
        (FILES | {"train/cat/0003.png": b"<html>"}, r"train/cat/0003.png.* cannot be decoded"),
        (FILES | {"train/cat/0003.png": b""}, r"train/cat/0003.png.* cannot be decoded"),
    ],
    ids=["no train", "no image", "unknown class", "truncated", "other", "empty"],
)
def test_errors_name_what_is_wrong(tmp_path, files, reason, packed):
    path = write_tar(tmp_path / "set.tar", files) if packed else write_files(tmp_path, files)
    with pytest.raises(DataError, match=reason) as raised:
        load_dataset("image_folder", path=path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tar.xz"])
def test_a_truncated_or_damaged_archive_is_never_a_smaller_set(tmp_path, name):
    path = write_tar(tmp_path / name, FILES)
    whole = path.read_bytes()
    content = len(whole) if name != "set.tar" else 1024 * len(FILES)
    for length in (0, 1, 300, 512, 1024, 1024 * 3, content // 2, content - 700):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load_dataset("image_folder", path=path)
    if name == "set.tar":
        path.write_bytes(whole[: 1024 * 4] + b"\x01" * 512 + whole[1024 * 4 + 512 :])
        with pytest.raises(DataError, match="truncated or damaged"):
            load_dataset("image_folder", path=path)


def test_links_devices_and_paths_out_of_an_archive_are_passed_over(tmp_path):
    def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    (tmp_path / "secret.png").write_bytes(FILES["train/cat/0000.png"])
    extra = [
        special("train/cat/link.png", tarfile.SYMTYPE, str(tmp_path / "secret.png")),
        special("train/cat/device.png", tarfile.CHRTYPE),
        special("train/cat/pipe.png", tarfile.FIFOTYPE),
        special("train/cat/folder.png", tarfile.DIRTYPE),
    ]
    image = FILES["train/cat/0000.png"]
    outside = {"/train/cat/a.png": image, "../train/cat/a.png": image, "train/cat/../../a.png": image}
    clean = load_dataset("image_folder", path=write_tar(tmp_path / "clean.tar", FILES))
    before = sorted(tmp_path.iterdir())
    for name in ("set.tar", "set.tar.xz"):
        path = write_tar(tmp_path / name, FILES | outside, *extra)
        assert same(load_dataset("image_folder", path=path), clean)
        path.unlink()
    assert sorted(tmp_path.iterdir()) == before
    hard = special("train/cat/hard.png", tarfile.LNKTYPE, "train/cat/0000.png")
    with pytest.raises(DataError, match=r"hard\.png .* is a hard link to train/cat/0000\.png.*--hard-dereference"):
        load_dataset("image_folder", path=write_tar(tmp_path / "hard.tar", FILES, hard))


@pytest.mark.parametrize("flat", [True, False])
def test_val_serves_where_the_test_images_have_no_classes(tmp_path, flat):
    files = {name.replace("test/", "val/"): data for name, data in FILES.items()}
    clean = load_dataset("image_folder", path=write_files(tmp_path / "clean", files))
    if flat:
        files |= {"test/0.png": FILES["test/cat/0000.png"]}
    folder = write_files(tmp_path / "folder", files)
    (folder / "test").mkdir(exist_ok=True)
    assert same(load_dataset("image_folder", path=folder), clean)
    assert same(load_dataset("image_folder", path=write_tar(tmp_path / "set.tar", files)), clean)


def test_a_set_that_has_changed_is_read_again(tmp_path):
    write_files(tmp_path, FILES)
    before = load_dataset("image_folder", path=tmp_path)
    assert load_dataset("image_folder", path=tmp_path) is before
    write_files(tmp_path, {"train/cat/9999.png": FILES["train/cat/0000.png"]})
    assert len(load_dataset("image_folder", path=tmp_path).train_images) == len(before.train_images) + 1


def test_archives_that_claim_more_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADIM_DATA_MEMORY", "1M")
    noise = os.urandom(600_000)
    path = write_tar(tmp_path / "set.tar.gz", {"train/a/0.png": noise, "train/a/1.png": noise})
    with pytest.raises(DataError, match=r"more than the 1\.0 MiB.*unpack it, or make it a \.tar"):
        load_dataset("image_folder", path=path)
    info = tarfile.TarInfo("train/a/0.png")
    info.size = 2**40
    path.with_suffix("").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(DataError, match="more than 67108864 bytes"):
        load_dataset("image_folder", path=path.with_suffix(""))
    # An extended header of a terabyte, of which tarfile would read all.
    info.type, info.name = tarfile.XHDTYPE, "pax"
    path.with_suffix("").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match="a header claims"):
        load_dataset("image_folder", path=path.with_suffix(""))


def test_images_that_claim_to_be_huge_or_deep(tmp_path):
    def png(width: int, height: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")

    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(deep, "PNG")
    cases = [
        (png(9000, 9000), f"9000 x 9000 pixels, more than {pixels_module.MAX_PIXELS}"),
        (png(60_000, 60_000), "0001.png"),
        (deep.getvalue(), "16 bits a channel but uses 12"),
    ]
    write_files(tmp_path, FILES)
    for number, (data, reason) in enumerate(cases):
        (tmp_path / "train/cat/0001.png").write_bytes(data)
        with pytest.raises(DataError, match=reason):
            load_dataset("image_folder", path=tmp_path, image_size=8 + number)


def test_pipes_and_dangling_links_in_a_folder_are_passed_over(tmp_path):
    clean = load_dataset("image_folder", path=write_files(tmp_path / "a", FILES))
    write_files(tmp_path / "b", FILES)
    os.mkfifo(tmp_path / "b/train/cat/pipe.png")
    (tmp_path / "b/train/cat/dangling.png").symlink_to(tmp_path / "absent.png")
    assert same(load_dataset("image_folder", path=tmp_path / "b"), clean)


def test_a_file_overwritten_in_place_is_read_again_whatever_its_date(tmp_path):
    for count in (20, 30):
        for name in write_idx_set(tmp_path, n=count, gz=False):
            os.utime(tmp_path / name, (10**9, 10**9))  # rsync and tar keep dates
        assert len(load_dataset("mnist", path=tmp_path).train_images) == count


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_size", [None, 6])
def test_images_are_put_upright(tmp_path, orientation, image_size):
    # How each orientation is stored (EXIF 2.3): the upright image, undone.
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x),
        7: lambda x: np.rot90(x.transpose(1, 0, 2), 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    upright = pixels(1, 12)[0, :8].repeat(8, axis=0).repeat(8, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "test"):
        place = tmp_path / split / "a"
        place.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(stored(upright))).save(place / "0.jpg", quality=95, exif=exif)
        Image.fromarray(upright).save(place / "1.jpg", quality=95)
    images = load_dataset("image_folder", path=tmp_path, image_size=image_size).train_images.float()
    assert images.shape[2:] == ((64, 96) if image_size is None else (6, 6))
    assert (images[0] - images[1]).abs().mean() < 3
