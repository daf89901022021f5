"""What was read is told, bad files are named and may be left out, and data is known by its content."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_sets import (
    encoded,
    image_files,
    medmnist_arrays,
    pixels,
    python2_pickle,
    write_files,
    write_idx_set,
    write_tar,
)

from adadim_core import Trainer
from adadim_core.checkpoint import CheckpointError, DataChangedError
from adadim_core.data import DataError, load_dataset
from adadim_core.data.__main__ import main
from adadim_core.data.batch_pickle import read_batch

FILES = image_files(train=40, test=20)
CUT = FILES["train/cat/0003.png"][:-60]


def load(path, **options):
    return load_dataset("image_folder", path=path, **options)


def fingerprint(path, **options):
    return load(path, **options).summary.fingerprint


def test_the_summary_of_a_folder(tmp_path):
    files = FILES | {"train/cat/a.heic": b"x", "dev/cat/0.png": b"x", "train/owl/0.png": FILES["train/cat/0000.png"]}
    summary = load(write_files(tmp_path, files)).summary
    lines = list(summary.lines())
    assert lines[0] == f"image_folder at {tmp_path}: 3 x 8 x 8 pixels, fingerprint {summary.fingerprint}"
    assert lines[1:] == [
        "training images: 81 (train/)",
        "held-out images: 40 (test/)",
        "3 classes (training + held out): cat 40+20, dog 40+20, owl 1+0",
        "passed over: 1 x ending is not that of an image: train/cat/a.heic",
        "not used: dev/",
    ]
    assert json.loads(json.dumps(summary.to_json()))["train"] == {"images": 81, "labelled": 81, "origin": "train/"}


def test_the_sizes_of_the_files_are_told(tmp_path):
    files = FILES | {"train/dog/big.png": encoded(pixels(1, 20)[0])}
    sizes = load(write_files(tmp_path, files), image_size=8).summary.sizes
    assert (sizes.smallest, sizes.largest, sizes.looked_at) == ((8, 8), (20, 20), 121)


@pytest.mark.parametrize("memory", ["1G", "0"], ids=["held", "streamed"])
@pytest.mark.parametrize("archived", [False, True])
def test_bad_files_are_left_out_and_named(tmp_path, monkeypatch, archived, memory):
    bad = {"train/cat/0003.png": CUT, "train/dog/0007.png": b"<html>", "test/dog/0001.png": b""}
    sound = {name: data for name, data in FILES.items() if name not in bad}
    pack = (
        (lambda name, files: write_tar(tmp_path / f"{name}.tar", files))
        if archived
        else (lambda name, files: write_files(tmp_path / name, files))
    )
    monkeypatch.setenv("ADADIM_DATA_MEMORY", memory)
    clean, skipped = load(pack("clean", sound)), load(pack("bad", FILES | bad), bad_files="skip")
    for name in ("train", "test"):
        rows = torch.arange(len(getattr(clean, f"{name}_images")))
        assert torch.equal(getattr(skipped, f"{name}_images")[rows], getattr(clean, f"{name}_images")[rows])
        assert torch.equal(getattr(skipped, f"{name}_labels"), getattr(clean, f"{name}_labels"))
    assert skipped.mean == clean.mean
    assert skipped.summary.fingerprint == clean.summary.fingerprint
    assert skipped.summary.bad_files == 3
    for name, reason in zip(bad, sorted(skipped.summary.bad_file_reasons), strict=False):
        assert any(name in told for told in skipped.summary.bad_file_reasons), reason


def test_all_bad_files_are_named_at_once(tmp_path):
    bad = [f"train/cat/{i:04}.png" for i in range(9)]
    with pytest.raises(DataError, match=r"9 files are bad; data\.bad_files: skip") as raised:
        load(write_files(tmp_path, FILES | dict.fromkeys(bad, CUT)))
    assert all(name in str(raised.value) for name in bad)


def test_more_bad_files_than_a_few_still_fail(tmp_path):
    bad = [f"train/cat/{i:04}.png" for i in range(11)]
    write_files(tmp_path, FILES | dict.fromkeys(bad, CUT))
    with pytest.raises(DataError, match="11 of 120 files are bad, more than the 10 that may be left out"):
        load(tmp_path, bad_files="skip")
    write_files(tmp_path, {bad[0]: FILES[bad[0]]})
    assert load(tmp_path, bad_files="skip").summary.bad_files == 10


def test_images_of_another_size_are_no_bad_files(tmp_path):
    write_files(tmp_path, FILES | {"train/dog/0005.png": encoded(pixels(1, 12)[0])})
    with pytest.raises(DataError, match=r"different sizes.*set data\.image_size"):
        load(tmp_path, bad_files="skip")


def test_the_fingerprint_is_that_of_the_content_not_of_its_place(tmp_path):
    known = fingerprint(write_files(tmp_path / "a", FILES))
    assert fingerprint(write_files(tmp_path / "b", FILES)) == known
    assert fingerprint(write_tar(tmp_path / "set.tar", FILES)) == known
    assert fingerprint(write_tar(tmp_path / "set.tar.gz", FILES)) == known
    assert fingerprint(tmp_path / "a", image_size=4) == known


CHANGES = {
    "an image more": {"train/cat/9999.png": FILES["train/cat/0000.png"]},
    "a held-out image more": {"test/cat/9999.png": FILES["train/cat/0000.png"]},
    "another image": {"train/cat/0003.png": encoded(pixels(1, 8, seed=99)[0])},
    "a third are others": {f"train/cat/{i:04}.png": encoded(pixels(1, 8, seed=i)[0]) for i in range(13)},
    "another name": {"train/cat/0003b.png": FILES["train/cat/0003.png"], "train/cat/0003.png": None},
    "another class": {"train/dog/x.png": FILES["train/cat/0003.png"], "train/cat/0003.png": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_the_content(tmp_path, change):
    known = fingerprint(write_files(tmp_path / "a", FILES))
    changed = {name: data for name, data in (FILES | change).items() if data is not None}
    assert fingerprint(write_files(tmp_path / "b", changed)) != known


@pytest.mark.parametrize("key", ["train_images", "train_labels", "test_images", "test_labels"])
def test_the_fingerprint_changes_with_one_number_of_an_array(tmp_path, key):
    arrays = medmnist_arrays()
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    arrays[key] = arrays[key].copy()
    arrays[key].flat[3] = (int(arrays[key].flat[3]) + 1) % 4
    np.savez(tmp_path / "c.npz", **arrays)
    first, again, changed = (
        load_dataset("npz", path=tmp_path / f"{name}.npz").summary.fingerprint for name in ("a", "b", "c")
    )
    assert first == again != changed


def test_a_training_does_not_go_on_with_other_images(tiny_spec, tmp_path):
    spec = tiny_spec(
        data={"dataset": "image_folder", "path": str(tmp_path / "set")},
        training={"epochs": 2, "warmup_epochs": 0, "batch_size": 16},
    )
    write_files(tmp_path / "set", FILES)
    begun = Trainer(spec, device="cpu")
    begun.train_epoch()
    begun.save(tmp_path / "state.pt")
    write_files(tmp_path / "set", {f"train/dog/{i:04}.png": encoded(pixels(1, 8, seed=i)[0]) for i in range(13)})
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    changed = Trainer(spec.with_params({"data.path": str(tmp_path / "moved")}), device="cpu")
    with pytest.raises(DataChangedError, match=r"then 80 images \(fingerprint \w{16}\), now 80 images"):
        changed.load(tmp_path / "state.pt")
    assert changed.step == 0
    write_files(tmp_path / "set", FILES)
    shutil.move(tmp_path / "set", tmp_path / "renamed")
    restored = Trainer(spec.with_params({"data.path": str(tmp_path / "renamed")}), device="cpu")
    restored.load(tmp_path / "state.pt")
    assert restored.step == begun.step


def test_a_state_without_a_fingerprint_goes_on_and_other_batches_do_not(tiny_spec):
    begun = Trainer(tiny_spec(), device="cpu")
    state = begun.state_dict()
    del state["data"]["fingerprint"]
    begun.load_state_dict(state)
    with pytest.raises(CheckpointError, match="in batches of 64, not of 128"):
        begun.load_state_dict(state | {"data": state["data"] | {"batch_size": 64}})


def test_the_model_card_tells_what_was_read(tiny_spec, tmp_path):
    trainer = Trainer(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}), device="cpu")
    trainer.export_encoder(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "training images: 1,438 (four fifths of each class)" in card
    assert trainer.data.summary.fingerprint in card
    with safe_open(tmp_path / "encoder.safetensors", "pt") as file:
        construction = json.loads(file.metadata()["adadim_encoder"])
    assert construction["data_fingerprint"] == trainer.data.summary.fingerprint


def test_the_command_prints_the_summary_and_names_bad_files(tmp_path, capsys):
    root = write_files(tmp_path / "set", FILES)
    assert main([str(root)]) == 0
    told = capsys.readouterr().out
    assert "training images: 80 (train/)" in told
    assert "files decoded: 120, all sound" in told
    write_files(root, {"train/cat/0003.png": CUT, "train/dog/big.png": encoded(pixels(1, 20)[0])})
    assert main([str(root)]) == 1
    told = capsys.readouterr().out
    assert "files decoded: 121, of which 1 are bad:" in told
    assert "train/cat/0003.png cannot be decoded" in told
    assert "the files have different sizes: set data.image_size" in told
    assert main([str(tmp_path / "absent")]) == 1
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("data: {dataset: npz, path: /data/set.npz}", "give its data.path, /data/set.npz"),
        ("name: of digits", "give a path as in data.path of a spec"),
        ("[", "give a path as in data.path of a spec"),
    ],
)
def test_a_spec_is_told_from_a_data_set(tmp_path, capsys, text, remedy):
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    assert main([str(spec)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{spec} is not a data set but looks like a spec: {remedy}")
    assert told.count("\n") == 1


def test_the_command_knows_published_sets(tmp_path, capsys):
    write_idx_set(tmp_path / "mnist")
    np.savez(tmp_path / "x.npz", **medmnist_arrays())
    assert main([str(tmp_path / "mnist")]) == 0
    assert capsys.readouterr().out.startswith("mnist at ")
    assert main([str(tmp_path / "x.npz")]) == 0
    assert capsys.readouterr().out.startswith("npz at ")
    assert main([str(tmp_path / "mnist"), "--dataset", "fashion_mnist"]) == 0
    assert capsys.readouterr().out.startswith("fashion_mnist at ")


def nested(kind, depth: int):
    """What takes a few kilobytes in a pickle, and 2 ** depth elements once it is walked."""
    value = kind([1])
    for _ in range(depth):
        value = kind([value, value])
    return value


@pytest.mark.timeout(20)
@pytest.mark.parametrize("labels", [nested(list, 40), nested(tuple, 40), [nested(list, 40)], [1.5], [True], [[1], [2]]])
def test_labels_of_a_pickle_are_a_flat_list_of_numbers(labels):
    hostile = b"\x80\x02}(U\x04data" + python2_pickle(np.zeros((2, 3072), np.uint8))[2:-1] + b"U\x06labels"
    hostile += pickle.dumps(labels, protocol=2)[2:-1] + b"u."
    with pytest.raises(DataError, match="labels are not a list of whole numbers"):
        read_batch(hostile, "batch", b"labels")


@pytest.mark.timeout(20)
def test_a_pickle_cannot_have_keys_that_take_for_ever_to_hash():
    deep = pickle.dumps(nested(tuple, 60), protocol=2)[2:-1]
    for hostile in (b"\x80\x02}" + deep + b"K\1s.", b"\x80\x02}(" + deep + b"K\1u.", b"\x80\x02(" + deep + b"K\1d."):
        with pytest.raises(DataError, match="has a tuple for a key"):
            read_batch(hostile, "batch", b"labels")
    with pytest.raises(DataError, match="not a CIFAR batch"):
        read_batch(b"\x80\x04\x8f(" + deep + b"\x90.", "batch", b"labels")
