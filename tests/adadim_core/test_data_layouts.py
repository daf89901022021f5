"""The layouts people have: names of splits, folders within classes, links, leftovers; nothing is passed over unsaid."""

import itertools
import zipfile

import pytest
import torch
from tiny_sets import encoded, image_files, pixels, write_files, write_tar

from adadim_core.data import DataError, load_dataset
from adadim_core.data.pixels import SUFFIXES
from adadim_core.data.skipped import BROKEN_LINK, LEFTOVER, NO_CLASS, REPEATED_FOLDER, UNREAD_ENDING

FILES = image_files()
TRAIN = {name: data for name, data in FILES.items() if name.startswith("train")}
TEST = {name.removeprefix("test/"): data for name, data in FILES.items() if name.startswith("test")}
PICTURE = encoded(pixels(1, 8)[0])

packed = pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])


def load(root, files, *, packed=False):
    path = write_tar(root / "set.tar", files) if packed else write_files(root / "set", files)
    return load_dataset("image_folder", path=path)


def passed_over(data) -> dict[str, int]:
    return {passed.reason: passed.count for passed in data.summary.passed_over}


@packed
@pytest.mark.parametrize("split", ["test", "val", "valid", "validation"])
def test_held_out_images_by_any_usual_name(tmp_path, split, packed):
    data = load(tmp_path, TRAIN | {f"{split}/{name}": content for name, content in TEST.items()}, packed=packed)
    assert (len(data.train_images), data.test_labels.tolist()) == (24, [0] * 4 + [1] * 4)
    assert data.summary.held_out.origin == f"{split}/"


@packed
@pytest.mark.parametrize("unlabelled", ["test/0.png", "test/images/0.png", "test/a/b/0.png"])
def test_unlabelled_test_images_beside_labelled_validation_images(tmp_path, unlabelled, packed):
    files = {name.replace("/cat/", "/cat/images/"): data for name, data in TRAIN.items()}
    files |= {f"val/{name}": content for name, content in TEST.items()} | {unlabelled: PICTURE}
    data = load(tmp_path, files, packed=packed)
    assert (len(data.train_images), len(data.test_images)) == (24, 8)
    assert any(name.startswith("test/: its images are in no folders of the classes") for name in data.summary.unused)


@packed
def test_a_set_whose_other_splits_have_no_classes_holds_some_out(tmp_path, packed):
    files = TRAIN | {"val/images/0.png": PICTURE, "test/images/0.png": PICTURE}
    data = load(tmp_path, files, packed=packed)
    assert (len(data.train_images), len(data.test_images)) == (22, 2)
    assert data.summary.held_out.origin == "held out of train/"
    assert len(data.summary.unused) == 2


@packed
def test_neighbours_of_train_that_are_not_used_are_named(tmp_path, packed):
    files = TRAIN | {"dev/cat/0.png": PICTURE, "Test/cat/0.png": PICTURE, "labels.csv": b"x", ".git/x": b"x"}
    unused = load(tmp_path, files, packed=packed).summary.unused
    assert [name.rstrip("/") for name in unused] == ["Test", "dev", "labels.csv"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"Train/cat/0.png": PICTURE}, "no folder 'train'; Train/ must be called train"),
        ({"training/cat/0.png": PICTURE}, "training/ must be called train"),
        ({"cat/0.png": PICTURE, "dog/0.png": PICTURE}, "it has cat/, dog/: put the folders of the classes into train/"),
        ({"train/cat/0.heic": b"x", "train/cat/1.heic": b"x"}, r"2 passed over \(ending is not that of an image\)"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(tmp_path, files, reason):
    with pytest.raises(DataError, match=reason):
        load(tmp_path, files)


LEFTOVERS = [
    ".DS_Store",
    "._0000.png",
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX/cat/0.png",
    "train/__MACOSX/0.png",
    "train/.ipynb_checkpoints/0.png",
    "train/cat/.ipynb_checkpoints/0-checkpoint.png",
    "train/cat/._0000.png",
    "train/cat/@eaDir/0000.png/thumb.jpg",
    "train/cat/Thumbs.db",
    "train/$RECYCLE.BIN/0.png",
    "test/lost+found/0.png",
    "test/.cache/0.png",
]


@packed
def test_what_other_programs_leave_behind_is_no_class_and_no_image(tmp_path, packed):
    clean = load(tmp_path / "clean", FILES, packed=packed)
    littered = load(tmp_path / "littered", FILES | dict.fromkeys(LEFTOVERS, PICTURE), packed=packed)
    assert torch.equal(littered.train_images, clean.train_images)
    assert torch.equal(littered.test_labels, clean.test_labels)
    assert littered.summary.classes == 2
    assert passed_over(littered)[LEFTOVER] >= 4
    assert littered.summary.unused == ()


def test_links_are_followed_and_loops_end(tmp_path):
    root = write_files(tmp_path / "set", TRAIN)
    write_files(tmp_path / "more", {f"deep/{i}.png": PICTURE for i in range(3)})
    (root / "train/cat/linked").symlink_to(tmp_path / "more")
    (root / "train/owl").symlink_to(tmp_path / "more")
    (root / "train/dog/loop").symlink_to(root / "train/dog")
    (root / "train/dog/up").symlink_to(root / "train")
    (root / "train/dog/nothing.png").symlink_to(tmp_path / "absent.png")
    data = load_dataset("image_folder", path=root)
    counts = {count.name: count.train + count.held_out for count in data.summary.class_counts}
    # The link up brings the images of the others into dog, those of `more` once.
    assert counts == {"cat": 15, "dog": 12 + 15, "owl": 3}
    assert passed_over(data)[BROKEN_LINK] >= 1
    assert passed_over(data)[REPEATED_FOLDER] >= 2


def test_folders_that_link_to_each_other_many_times_are_read_once(tmp_path):
    root = write_files(tmp_path / "set", TRAIN)
    levels = [tmp_path / f"level{i}" for i in range(40)]
    for level in levels:
        level.mkdir()
    for level, below in itertools.pairwise(levels):
        for name in ("a", "b"):
            (level / name).symlink_to(below)
    write_files(levels[-1], {"0.png": PICTURE})
    (root / "train/cat/many").symlink_to(levels[0])  # 2^39 paths lead to the one image
    assert len(load_dataset("image_folder", path=root).train_images) == 23


@packed
@pytest.mark.parametrize("ending", sorted({".jfif", ".jpe", ".JPG", ".Jpeg", ".gif", ".jp2", ".avif", ".tga", ".dib"}))
def test_every_ending_of_a_format_that_is_read_counts(tmp_path, ending, packed):
    formats = {".gif": "GIF", ".jp2": "JPEG2000", ".avif": "AVIF", ".tga": "TGA", ".dib": "DIB"}
    picture = encoded(pixels(1, 8)[0], formats.get(ending.lower(), "JPEG"))
    data = load(tmp_path, TRAIN | {f"train/owl/{i}{ending}": picture for i in range(3)}, packed=packed)
    assert {count.name: count.train + count.held_out for count in data.summary.class_counts}["owl"] == 3
    assert ending.lower() in SUFFIXES


@packed
def test_what_is_passed_over_is_counted_by_reason(tmp_path, packed):
    other = {
        "train/cat/a.heic": b"x",
        "train/cat/notes.txt": b"x",
        "train/dog/b.HEIC": b"x",
        "train/loose.png": PICTURE,
    }
    data = load(tmp_path, TRAIN | other, packed=packed)
    assert passed_over(data) == {UNREAD_ENDING: 3, NO_CLASS: 1}
    examples = {passed.reason: passed.examples for passed in data.summary.passed_over}
    assert examples[NO_CLASS] == ("train/loose.png",)
    assert "passed over: 3 x ending is not that of an image: train/" in "\n".join(data.summary.lines())


def test_an_empty_folder_is_no_class(tmp_path):
    root = write_files(tmp_path / "set", TRAIN)
    (root / "train/cow").mkdir()
    data = load_dataset("image_folder", path=root)
    assert [count.name for count in data.summary.class_counts] == ["cat", "dog"]
    assert passed_over(data) == {"class folder without images": 1}


def test_a_zip_archive_is_told_as_what_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("train/cat/0.png", PICTURE)
    with pytest.raises(DataError, match="is a zip archive, whose files are not read: unpack it"):
        load_dataset("image_folder", path=tmp_path / "set.zip")
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"is a folder: path must name one \.npz file, as x\.npz"):
        load_dataset("npz", path=tmp_path)
