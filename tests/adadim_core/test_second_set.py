"""Transfer: scores on a second data set, of other channels and sides; what cannot serve is refused before training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sets import pixels

from adadim_core import DataError, Trainer, load_dataset
from adadim_core.data import registry
from adadim_core.evaluation import embed, knn_accuracy
from adadim_core.spec import SpecError, validate_spec

SCORES = ("transfer_knn_top1", "transfer_linear_top1")


def npz(path: Path, *, side: int = 8, channels: int = 1, labels: object = None) -> dict[str, str]:
    """Writes 60 images, half of them dark, whose class is their brightness. Returns the section that names them."""
    images = pixels(60, side, channels) // 4 + 150 * (np.arange(60) % 2).astype(np.uint8)[:, None, None, None]
    classes = np.arange(60) % 2 if labels is None else labels
    arrays = {"train_images": images[:40], "test_images": images[40:]}
    arrays |= {"train_labels": np.asarray(classes)[:40], "test_labels": np.asarray(classes)[40:]}
    np.savez(path, **arrays)
    return {"dataset": "npz", "path": str(path)}


def trained(tiny_spec, source: dict[str, str], **sections) -> list[tuple[int, dict[str, float]]]:
    points = []
    spec = tiny_spec(training={"epochs": 2}, evaluation={"transfer": source, "knn_k": 5}, **sections)
    made = Trainer(spec, device="cpu", report=lambda step, _, values: points.append((step, dict(values))))
    made.fit()
    bank = embed(made.encoder, torch.zeros(2, 1, 8, 8, dtype=torch.uint8), batch_size=2)
    assert bank.shape[0] == 2, "the encoder itself is as it was"
    assert made.encoder.training
    return points


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (12, 3)])
def test_a_second_set_is_judged_after_the_last_epoch(tiny_spec, tmp_path, side, channels):
    points = trained(tiny_spec, npz(tmp_path / "second.npz", side=side, channels=channels))
    scored = [(step, values) for step, values in points if SCORES[0] in values]
    assert [step for step, _ in scored] == [22]
    assert all(scored[0][1][name] > 0.9 for name in SCORES)  # brightness is there in any R


def test_the_score_is_that_of_the_encoder_on_that_set(tiny_spec, tmp_path):
    source = npz(tmp_path / "second.npz")
    spec = tiny_spec(training={"epochs": 2}, evaluation={"transfer": source, "knn_k": 5})
    made = Trainer(spec, device="cpu")
    last = made.fit()
    data = load_dataset("npz", path=source["path"])
    bank, queries = (embed(made.encoder, x, batch_size=16) for x in (data.train_images, data.test_images))
    assert last["transfer_knn_top1"] == knn_accuracy(bank, data.train_labels, queries, data.test_labels, k=5)


def test_both_sets_are_kept_for_the_next_trial(tiny_spec, tmp_path, monkeypatch):
    source = npz(tmp_path / "second.npz")
    read: list[str] = []

    def noted(name: str) -> registry.Loader:
        load = registry._LOADERS[name]
        return lambda place, side: read.append(name) or load(place, side)

    monkeypatch.setattr(registry, "_LOADERS", {name: noted(name) for name in registry._LOADERS})
    monkeypatch.setattr(registry, "_last", {})
    spec = tiny_spec(evaluation={"transfer": source})
    first, second = Trainer(spec, device="cpu"), Trainer(spec, device="cpu")
    assert sorted(read) == ["digits", "npz"], "each was read once, for both trials"
    assert second.data.train_images is first.data.train_images


@pytest.mark.parametrize(
    ("labels", "why"),
    [(np.full(60, -1), "needs one label an image"), (np.eye(60)[:, :2] + 1 > 1, "needs one label an image")],
    ids=["none", "several"],
)
def test_a_set_that_cannot_judge_is_refused_before_training(tiny_spec, tmp_path, labels, why):
    source = npz(tmp_path / "second.npz", labels=np.asarray(labels, dtype=np.int64))
    with pytest.raises(DataError, match=f"evaluation.transfer.*{why}"):
        Trainer(tiny_spec(evaluation={"transfer": source}), device="cpu")


@pytest.mark.parametrize("metric", [*SCORES, "few_labels_1", "few_labels_10"])
def test_what_is_not_measured_does_not_rank(metric):
    search = {"metric": metric, "trials": 2, "space": {"training.lr": {"uniform": [0.1, 0.2]}}}
    with pytest.raises(SpecError, match=f"search.metric {metric} needs evaluation"):
        validate_spec({"name": "x", "search": search})
    evaluation = {"few_labels": True, "transfer": {"dataset": "digits"}}
    validate_spec({"name": "x", "search": search, "evaluation": evaluation})
    with pytest.raises(SpecError, match="known only after the last epoch"):
        validate_spec({"name": "x", "search": search, "evaluation": evaluation, "stop": {"plateau": {"patience": 3}}})
