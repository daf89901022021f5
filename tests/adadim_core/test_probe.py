"""Linear probes: offline against scikit-learn's, online learning beside the encoder without touching it."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adadim_core.probe import OnlineProbe, few_label_rows, linear_probe_accuracy
from adadim_core.trainer import Trainer

CPU = torch.device("cpu")


def classes(draw, n, spread=1.5, count=6, dimensions=12):
    labels = torch.arange(n) % count
    centres = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(1))
    scales = torch.logspace(-3, 3, dimensions)  # no scale of R may matter
    return (spread * draw(n, dimensions, dtype=torch.float32) + centres[labels]) * scales, labels


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_offline_agrees_with_scikit_learn(draw, c):
    (bank, labels), (queries, truth) = classes(draw, 600), classes(draw, 1500)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000, tol=1e-6))
    expected = reference.fit(bank.numpy(), labels.numpy()).score(queries.numpy(), truth.numpy())
    assert 0.5 < expected < 0.95
    assert linear_probe_accuracy(bank, labels, queries, truth, c=c) == pytest.approx(expected, abs=2e-3)


def test_offline_of_odd_input(draw):
    bank, labels = classes(draw, 60, spread=0.01)
    bank[:, 0] = 3.0  # a dimension that is constant
    assert linear_probe_accuracy(bank, labels, bank, labels) == 1
    assert linear_probe_accuracy(bank, labels, bank, labels + 6) == 0
    bank[3, 1] = math.inf
    assert math.isnan(linear_probe_accuracy(bank, labels, bank, labels))


def test_online_learns_what_there_is_to_learn(draw):
    (bank, labels), (queries, truth) = classes(draw, 600), classes(draw, 1500)
    probe = OnlineProbe(12, 6, CPU)
    for _ in range(1500):
        probe.learn(bank, labels)
    assert probe.accuracy(queries, truth) == pytest.approx(
        linear_probe_accuracy(bank, labels, queries, truth), abs=0.02
    )
    assert probe.training
    queries[0, 0] = math.nan
    assert math.isnan(probe.accuracy(queries, truth))


def test_online_sends_no_gradient_to_r(draw):
    r = draw(20, 12, dtype=torch.float32).requires_grad_()
    OnlineProbe(12, 6, CPU).learn(r * 2, torch.arange(20) % 6)
    assert r.grad is None


def test_a_probe_changes_nothing_but_itself(tiny_spec):
    def trained(probe):
        points = []
        spec = tiny_spec(training={"epochs": 2}, evaluation={"linear_probe": probe})
        made = Trainer(spec, device="cpu", report=lambda s, e, v: points.append((s, dict(v))))
        made.fit()
        return made.state_dict()["model"], points

    weights, points = trained("off")
    assert not any("linear_top1" in values for _, values in points)
    for probe, steps in (("online", [11, 22]), ("offline", [22])):
        with_probe, probed = trained(probe)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in with_probe.items())
        reported = {step: values["linear_top1"] for step, values in probed if "linear_top1" in values}
        assert list(reported) == steps
        assert reported[22] > 0.4
        keys = points[-1][1].keys() | {"linear_top1"}
        assert probed[-1][1].keys() == keys


def test_few_labels_are_a_share_of_each_class_and_one_at_least():
    labels = torch.tensor([0] * 300 + [1] * 40 + [3] * 5)[torch.randperm(345)]
    for share, counts in ((0.01, [3, 1, 0, 1]), (0.1, [30, 4, 0, 1])):  # 0.5 rounds to even, and one is the least
        rows = few_label_rows(labels, share)
        assert labels[rows].bincount().tolist() == counts
        assert len(rows.unique()) == len(rows)
        assert torch.equal(rows, few_label_rows(labels, share)), "the same at every call"
    first_of_each = [labels.tolist().index(c) for c in (0, 1, 3)]
    assert sorted(few_label_rows(labels, 0.001).tolist()) != sorted(first_of_each), "not the first ones of a file"


def test_few_labels_are_judged_after_the_last_epoch(tiny_spec):
    points = []
    spec = tiny_spec(training={"epochs": 2}, evaluation={"few_labels": True, "linear_probe": "offline"})
    Trainer(spec, device="cpu", report=lambda s, e, v: points.append((s, dict(v)))).fit()
    (found,) = [values for _, values in points if "few_labels_10" in values]
    assert 0.1 < found["few_labels_1"] < found["few_labels_10"] < found["linear_top1"]
