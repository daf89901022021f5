"""The digits and the registry."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from adadim_core.data import dataset_names, load_dataset

FIRST_LABELS = [3, 7, 3, 9, 0, 8, 7, 0, 8, 0, 3, 3]
FIRST_SUM = 57851


def test_digits_are_split_once_and_for_all():
    data = load_dataset("digits")
    assert data.train_images.shape == (1438, 1, 8, 8)
    assert data.test_images.shape == (359, 1, 8, 8)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    counts = torch.bincount(data.train_labels), torch.bincount(data.test_labels)
    shares = counts[1] / (counts[0] + counts[1])
    assert ((shares - 0.2).abs() < 0.003).all()
    # The first held-out rows: a split that moves makes every stored accuracy incomparable.
    assert data.test_labels[:12].tolist() == FIRST_LABELS
    assert int(data.test_images[:12].long().sum()) == FIRST_SUM


def test_digits_are_all_there_with_their_labels():
    data, source = load_dataset("digits"), load_digits()
    ours = torch.cat([data.train_images, data.test_images]).flatten(1).float() * 16 / 255
    labels = torch.cat([data.train_labels, data.test_labels])
    rows = np.concatenate([ours.round().numpy(), labels[:, None].numpy()], axis=1)
    expected = np.concatenate([source.data, source.target[:, None]], axis=1)
    assert np.array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_digits_default_augmentation_keeps_their_meaning():
    recipe = load_dataset("digits").augmentation
    assert recipe.flip == recipe.solarize == 0
    assert recipe.crop_scale[0] < 1


def test_statistics_are_those_of_the_training_images():
    data = load_dataset("digits")
    assert data.mean[0] == pytest.approx(data.train_images.float().mean().item() / 255, rel=1e-5)
    assert data.std[0] == pytest.approx(data.train_images.float().std().item() / 255, rel=1e-3)


def test_sets_are_read_once():
    assert load_dataset("digits") is load_dataset("digits")


def test_an_unknown_name_says_what_is_known():
    assert "digits" in dataset_names()
    with pytest.raises(ValueError, match=r"imagenet.*digits"):
        load_dataset("imagenet")
