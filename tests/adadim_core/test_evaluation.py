"""k-NN against scikit-learn's, and embedding."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from adadim_core import evaluation
from adadim_core.evaluation import embed, knn_accuracy, knn_mean_average_precision
from adadim_core.models import build_encoder
from adadim_core.probe import linear_probe_accuracy
from adadim_core.spec.sections import ModelSpec


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_knn_agrees_with_scikit_learn(draw, k, temperature):
    classes, bank, queries = 6, draw(300, 5, dtype=torch.float32), draw(1500, 5, dtype=torch.float32)
    centres = draw(classes, 5, dtype=torch.float32)
    labels, truth = torch.arange(300) % classes, torch.arange(1500) % classes
    bank, queries = bank + centres[labels], queries + centres[truth]
    reference = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature)
    ).fit(bank.numpy(), labels.numpy())
    expected = reference.score(queries.numpy(), truth.numpy())
    assert 0.3 < expected < 0.95
    assert knn_accuracy(bank, labels, queries, truth, k=k, temperature=temperature) == pytest.approx(expected, abs=1e-3)


def test_knn_of_few_points_and_low_temperatures(draw):
    bank = torch.eye(3)
    labels = torch.tensor([0, 1, 2])
    assert knn_accuracy(bank, labels, bank, labels, k=200) == 1
    assert knn_accuracy(bank, labels, bank, labels, k=3, temperature=1e-30) == 1
    assert knn_accuracy(bank, labels, bank, labels.roll(1), k=1) == 0


def test_labels_that_the_bank_lacks_are_misses_and_nan_is_nan(draw):
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert knn_accuracy(bank, labels, bank, torch.tensor([0, 1, 7]), k=1) == pytest.approx(2 / 3)
    bank[0, 0] = math.nan
    assert math.isnan(knn_accuracy(bank, labels, bank, labels))


def test_what_does_not_fit_is_refused(draw):
    x, y = draw(6, 3), torch.arange(6) % 2
    for classifier in (knn_accuracy, linear_probe_accuracy):
        for arguments in ((x, y, x[:, :2], y), (x, y[:5], x, y), (x, y.double(), x, y), (x, y - 1, x, y)):
            with pytest.raises(ValueError, match=r"needed|whole numbers|negative"):
                classifier(*arguments)
        assert classifier(x, y.int(), x, y.int()) == classifier(x, y, x, y)
    with pytest.raises(ValueError, match="k must be"):
        knn_accuracy(x, y, x, y, k=0)


def test_embedding_is_in_eval_mode_and_leaves_no_trace():
    encoder = build_encoder(ModelSpec(backbone="conv_small", width=4), mean=(0.5,), std=(0.2,))
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    r = embed(encoder, images, batch_size=16)
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    torch.testing.assert_close(r, encoder.eval()(images).detach())


class _Largest(TorchDispatchMode):
    """The most numbers that any operation within it gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_memory_of_knn_does_not_grow_with_the_bank(draw, monkeypatch):
    monkeypatch.setattr(evaluation, "_SIMILARITIES", 5000)
    bank, queries = draw(2000, 2, dtype=torch.float32), draw(100, 2, dtype=torch.float32)
    labels, truth = torch.arange(2000) % 3, torch.arange(100) % 3
    before = bank.clone()
    with _Largest() as largest:
        accuracy = knn_accuracy(bank, labels, queries, truth)
    assert largest.numbers <= 5000
    assert torch.equal(bank, before)
    monkeypatch.undo()
    assert knn_accuracy(bank, labels, queries, truth) == accuracy


def test_lengths_do_not_matter_to_knn(draw):
    bank, queries = draw(200, 5), draw(60, 5)
    labels, truth = torch.arange(200) % 4, torch.arange(60) % 4
    lengths = torch.logspace(-6, 6, 200, dtype=torch.float64)[:, None]
    assert knn_accuracy(lengths * bank, labels, queries, truth) == knn_accuracy(bank, labels, queries, truth)


def test_mean_average_precision_is_that_of_scikit_learn(draw):
    bank, queries = draw(60, 8), draw(40, 8)
    bank_labels = (draw(60, 5) > 0.5).to(torch.uint8)
    labels = (draw(40, 5) > 0.5).to(torch.uint8)
    labels[:, 4] = 1  # all queries have it: it does not count
    k, temperature = 7, 0.1
    similarity = normalize(queries) @ normalize(bank).T
    scores = []
    for row in similarity:
        nearest = row.topk(k)
        votes = (nearest.values / temperature).exp()
        scores.append((votes[:, None] * bank_labels[nearest.indices]).sum(dim=0) / votes.sum())
    expected = average_precision_score(labels[:, :4].numpy(), torch.stack(scores)[:, :4].numpy(), average="macro")
    found = knn_mean_average_precision(bank, bank_labels, queries, labels, k=k, temperature=temperature)
    assert found == pytest.approx(expected, abs=1e-6)


def test_mean_average_precision_of_what_cannot_differ_or_is_not_finite():
    ones = torch.ones(4, 3)
    assert math.isnan(knn_mean_average_precision(ones, ones, ones, ones))
    labels = torch.eye(4, 3)
    assert math.isnan(knn_mean_average_precision(ones * math.nan, labels, ones, labels))
    # All queries look alike: the precision is the share of them that have the label.
    assert knn_mean_average_precision(ones, labels, ones, labels) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="a row of labels"):
        knn_mean_average_precision(ones, labels[:2], ones, labels)
