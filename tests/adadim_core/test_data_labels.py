"""Labels are not required: sets without them, with some, with several an image, with one class train all the same."""

import numpy as np
import pytest
import torch
from tiny_sets import encoded, image_files, medmnist_arrays, pixels, write_files

from adadim_core import Trainer
from adadim_core.data import UNLABELLED, load_dataset
from adadim_core.data.labels import hold_out

SEVERAL = np.random.RandomState(0).randint(0, 2, (12, 5)).astype(np.uint8)
SEVERAL_TEST = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], np.uint8)


def npz(tmp_path, **changes):
    """A set of 12 training and 5 test images; None leaves an array out."""
    arrays = {key: value for key, value in (medmnist_arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    return load_dataset("npz", path=tmp_path / "set.npz")


UNLABELLED_SETS = {
    "every label -1": {"train_labels": np.full(12, -1), "test_labels": np.full(5, -1)},
    "test labels only": {"train_labels": np.full(12, -1)},
    "no labels": {"train_labels": None, "test_labels": None, "val_labels": None},
    "training images only": {key: None for key in medmnist_arrays() if key != "train_images"},
    "labels not a number": {"train_labels": np.full(12, np.nan)},
}


@pytest.mark.parametrize("changes", UNLABELLED_SETS.values(), ids=UNLABELLED_SETS)
def test_images_without_labels_are_all_trained_on_and_not_evaluated(tmp_path, changes):
    data = npz(tmp_path, **changes)
    assert data.train_images.shape == (12, 3, 28, 28)
    assert data.train_labels.tolist() == [UNLABELLED] * 12
    assert (len(data.test_images), data.accuracy_metrics) == (0, ())
    assert data.summary.not_evaluated == "the training images have no labels"


def test_one_class_is_not_evaluated(tmp_path):
    data = npz(tmp_path, train_labels=np.zeros(12, int), test_labels=np.zeros(5, int))
    assert (data.accuracy_metrics, data.summary.not_evaluated) == (
        (),
        "all training images with a label are of one class",
    )


def test_validation_images_serve_where_the_test_images_have_no_labels(tmp_path):
    data = npz(tmp_path, test_labels=np.full(5, -1))
    assert (data.test_images.shape[0], data.summary.held_out.origin) == (3, "val_images")
    assert "test_images" in data.summary.unused


def test_test_images_without_a_label_are_left_out(tmp_path):
    data = npz(tmp_path, test_labels=np.array([1, -1, 0, -1, 2]))
    assert data.test_labels.tolist() == [1, 0, 2]
    assert torch.equal(data.test_images[1].permute(1, 2, 0), torch.from_numpy(medmnist_arrays()["test_images"][2]))


def test_without_test_images_a_tenth_of_each_class_is_held_out_of_arrays_too(tmp_path):
    labels = np.repeat([0, 1], 6)
    data = npz(tmp_path, train_labels=labels, **{key: None for key in medmnist_arrays() if "train" not in key})
    assert data.test_labels.tolist() == [0, 1]
    assert data.train_labels.tolist() == [0] * 5 + [1] * 5
    everything = torch.cat([data.train_images, data.test_images]).flatten(1).unique(dim=0)
    assert len(everything) == 12


@pytest.mark.parametrize(
    "given",
    [
        np.arange(12) % 3,
        (np.arange(12) % 3)[:, None].astype(np.uint8),
        (np.arange(12) % 3).astype(np.float64),
        np.array(["cat", "dog", "owl"] * 4),
        np.array([b"cat", b"dog", b"owl"] * 4),
        np.eye(3, dtype=np.uint8)[np.arange(12) % 3],
        np.eye(3, dtype=bool)[np.arange(12) % 3],
    ],
    ids=["numbers", "a column", "whole floats", "names", "byte names", "one-hot", "one-hot booleans"],
)
def test_one_label_an_image_in_whatever_form(tmp_path, given):
    data = npz(tmp_path, train_labels=given, test_labels=given[:5], val_labels=None)
    assert data.train_labels.tolist() == [0, 1, 2] * 4
    assert data.test_labels.tolist() == [0, 1, 2, 0, 1]
    assert data.accuracy_metrics == ("knn_top1", "linear_top1", "few_labels_1", "few_labels_10")
    names = [count.name for count in data.summary.class_counts]
    assert names == (["cat", "dog", "owl"] if given.dtype.kind in "US" else ["0", "1", "2"])


def test_several_labels_an_image(tmp_path):
    data = npz(tmp_path, train_labels=SEVERAL, test_labels=SEVERAL_TEST, val_labels=None)
    assert data.train_labels.tolist() == SEVERAL.tolist()
    assert (data.accuracy_metrics, data.summary.labels) == (("knn_map",), "several")
    assert [count.train for count in data.summary.class_counts] == SEVERAL.sum(axis=0).tolist()


def test_a_part_whose_images_happen_to_have_one_label_each_has_several_all_the_same(tmp_path):
    single = np.eye(5, dtype=np.uint8)
    data = npz(tmp_path, train_labels=SEVERAL, test_labels=single, val_labels=None)
    assert data.test_labels.tolist() == single.tolist()


@pytest.mark.parametrize("probe", ["off", "online", "offline"])
@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        (UNLABELLED_SETS["no labels"], set()),
        ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(5, int)}, set()),
        ({"train_labels": SEVERAL, "test_labels": SEVERAL_TEST, "val_labels": None}, {"knn_map"}),
    ],
    ids=["none", "one class", "several"],
)
def test_such_sets_train_and_measure_what_their_labels_allow(tiny_spec, tmp_path, changes, measured, probe):
    data = npz(tmp_path, **changes)
    spec = tiny_spec(training={"epochs": 1, "warmup_epochs": 0, "batch_size": 8}, evaluation={"linear_probe": probe})
    values = Trainer(spec, data=data, device="cpu").fit()
    assert {"h_r", "loss"} <= values.keys()
    assert {"knn_top1", "knn_map", "linear_top1"} & values.keys() == measured
    assert all(0 <= values[name] <= 1 for name in measured)


def test_a_folder_of_images_trains_without_labels(tmp_path):
    loose = {f"{i}.png": encoded(image) for i, image in enumerate(pixels(9, 8))}
    below = load_dataset("image_folder", path=write_files(tmp_path / "a", {f"train/{k}": v for k, v in loose.items()}))
    flat = load_dataset("image_folder", path=write_files(tmp_path / "b", loose))
    assert below.train_images.shape == flat.train_images.shape == (9, 3, 8, 8)
    assert torch.equal(below.train_images, flat.train_images)
    assert below.accuracy_metrics == flat.accuracy_metrics == ()


def test_one_folder_of_images_is_trained_on_whole(tmp_path):
    files = {name: data for name, data in image_files(train=9, classes=("all",)).items() if name.startswith("train")}
    data = load_dataset("image_folder", path=write_files(tmp_path, files))
    assert (len(data.train_images), len(data.test_images), data.accuracy_metrics) == (9, 0, ())


@pytest.mark.parametrize(("images", "held_out"), [(1, 0), (2, 1), (4, 1), (5, 1), (14, 1), (16, 2), (40, 4)])
def test_few_images_a_class_still_hold_some_out(images, held_out):
    labels = np.concatenate([np.repeat([0, 1, 2], images), [UNLABELLED] * 50])
    mask = hold_out(labels)
    assert np.bincount(labels[mask & (labels >= 0)], minlength=3).tolist() == [held_out] * 3
    assert not mask[labels == UNLABELLED].any()
