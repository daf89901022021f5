"""The training loop: what it reports, that it resumes exactly, survives NaN, and learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adadim_core import load_encoder, trainer
from adadim_core.checkpoint import CheckpointError
from adadim_core.objective import objective
from adadim_core.spec import ExperimentSpec, parse_spec, plan_trials
from adadim_core.spec.metrics import METRICS
from adadim_core.trainer import Trainer

Points = list[tuple[int, float, dict[str, float]]]

STEP_METRICS = set(METRICS) - {"knn_top1", "linear_top1"}
START_METRICS = {"h_r", "i_rz", "erank_r", "erank_z", "alpha", "beta"}


def recorded(spec: ExperimentSpec, **kwargs: Any) -> tuple[Trainer, Points]:
    points: Points = []
    made = Trainer(spec, device="cpu", report=lambda s, e, v: points.append((s, e, dict(v))), **kwargs)
    return made, points


def comparable(points: Points) -> list[tuple[int, float, list[tuple[str, str]]]]:
    """Without the one metric that is a matter of the clock, and with NaN equal to NaN."""
    return [(s, e, [(k, repr(v)) for k, v in values.items() if k != "images_per_s"]) for s, e, values in points]


def test_reports_come_when_they_should(tiny_spec):
    spec = tiny_spec(training={"epochs": 3, "warmup_epochs": 0}, evaluation={"every_epochs": 2})
    made, points = recorded(spec)
    assert made.steps_per_epoch == 1438 // 128 == 11
    last = made.fit()
    assert made.done
    assert (made.step, made.epoch, made.epochs) == (33, 3, 3)

    measured = [(s, e) for s, e, v in points if set(v) == STEP_METRICS]
    steps = [4, 8, 11, 12, 16, 20, 22, 24, 28, 32, 33]
    assert measured == [(s, s / 11) for s in steps]
    assert [(s, e) for s, e, v in points if set(v) == {"knn_top1"}] == [(22, 2.0), (33, 3.0)]
    assert (points[0][:2], set(points[0][2])) == ((0, 0.0), START_METRICS)
    assert len(points) == 1 + len(steps) + 2
    assert all(isinstance(v, float) and math.isfinite(v) for _, _, values in points for v in values.values())
    assert last == {**points[-2][2], **points[-1][2]}
    with pytest.raises(RuntimeError, match="3 epochs"):
        made.train_epoch()


def test_the_loss_is_the_sum_of_its_weighted_parts(tiny_spec):
    spec = tiny_spec(objective={"mutual_information": {"gamma": 0.5}})
    made, points = recorded(spec)
    made.train_epoch()
    for _, _, v in points:
        if "loss" in v:
            parts = (1 - v["alpha"]) * v["loss_dimension"] + v["alpha"] * v["loss_sample"] + v["beta"] * v["loss_mi"]
            assert v["loss"] == pytest.approx(parts, rel=1e-5)
            assert v["beta"] == pytest.approx(0.5 * v["alpha"])


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"objective": {"weighting": {"policy": "adaptive", "smoothing": 0.5, "every_epochs": 2}}},
        {"objective": {"weighting": {"policy": "cosine"}, "dimension_loss": {"name": "barlow_twins"}}},
        {"training": {"optimizer": "lars", "lr": 0.3}, "model": {"backbone": "resnet18"}},
        {"training": {"precision": "bfloat16", "optimizer": "sgd"}},
    ],
    ids=["adamw", "smoothed", "cosine", "lars resnet18", "sgd bfloat16"],
)
def test_a_resumed_run_is_the_uninterrupted_run(tiny_spec, tmp_path, sections):
    spec = tiny_spec(**{**sections, "training": {"epochs": 3, **sections.get("training", {})}})
    whole, expected = recorded(spec)
    whole.fit()
    for stop in (1, 2):
        first, before = recorded(spec)
        for _ in range(stop):
            first.train_epoch()
        first.save(tmp_path / "state.pt")
        torch.manual_seed(stop)  # what the process drew meanwhile must not matter
        second, after = recorded(spec)
        second.load(tmp_path / "state.pt")
        assert (second.step, second.epoch, second.done) == (first.step, stop, False)
        last = second.fit()
        assert comparable(before + after) == comparable(expected)
        assert last.keys() == whole._last.keys()
        weights = whole.state_dict()["model"]
        assert all(torch.equal(tensor, weights[name]) for name, tensor in second.state_dict()["model"].items())


def test_seeds_decide_everything(tiny_spec):
    def weights(seed: int) -> torch.Tensor:
        made, _ = recorded(tiny_spec(training={"epochs": 2, "seed": seed}))
        made.train_epoch()
        return torch.cat([p.flatten() for p in made.state_dict()["model"].values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_checkpoints_that_do_not_fit_are_refused(tiny_spec, tmp_path):
    made, _ = recorded(tiny_spec())
    path = tmp_path / "state.pt"
    made.save(path)
    wider, _ = recorded(tiny_spec(model={"width": 8}))
    with pytest.raises(CheckpointError, match="does not fit"):
        wider.load(path)
    other_batch, _ = recorded(tiny_spec(training={"batch_size": 64}))
    with pytest.raises(CheckpointError, match="steps an epoch"):
        other_batch.load(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        made.load(path)


def test_nan_is_reported_not_raised(tiny_spec):
    made, points = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}))
    with torch.no_grad():
        made._model.projector[0].weight[0, 0] = math.nan
    last = made.fit()
    assert made.done
    assert math.isnan(last["loss"])
    assert math.isnan(last["i_rz"])
    assert math.isnan(last["knn_top1"])
    assert last["alpha"] == 0  # never measured: not NaN, and within its bounds
    assert points[-1][0] == 11


def test_without_gamma_the_information_term_is_not_in_the_graph(tiny_spec, draw, monkeypatch):
    r, z1, z2 = (draw(16, 8).requires_grad_() for _ in range(3))
    spec = tiny_spec().objective
    terms = objective(spec, z1, z2, r, alpha=0.5, beta=0.0)
    terms.total.backward()
    assert terms.information is None
    assert r.grad is None
    with pytest.raises(ValueError, match="needs R"):
        objective(spec, z1, z2, None, alpha=0.5, beta=0.1)

    calls: list[bool] = []
    original = trainer.mutual_information
    for module in ("adadim_core.objective.mutual_information", "adadim_core.trainer.mutual_information"):
        monkeypatch.setattr(module, lambda *a, **k: calls.append(torch.is_grad_enabled()) or original(*a, **k))
    made, points = recorded(
        tiny_spec(training={"log_every_steps": 1000}, objective={"mutual_information": {"gamma": 0.0}})
    )
    made.train_epoch()
    # Twice where it is logged (in the loss's form and centred), centred once at the start; never with gradient.
    assert calls == [False, False, False]
    assert points[1][2]["beta"] == 0
    assert points[1][2]["loss_mi"] > 0


def test_reward_and_delayed_start(tiny_spec):
    spec = tiny_spec(objective={"mutual_information": {"gamma": 0.2, "sign": "reward", "start_epoch": 1}})
    made, points = recorded(spec)
    made.train_epoch()
    assert {v["beta"] for _, _, v in points if "beta" in v} == {0.0}
    made.train_epoch()
    assert points[-2][2]["beta"] == pytest.approx(-0.2 * points[-2][2]["alpha"])


def test_measuring_leaves_the_network_alone(tiny_spec):
    made, _ = recorded(tiny_spec())
    before = {name: tensor.clone() for name, tensor in made.state_dict()["model"].items()}
    made._measure_before_epoch(0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict()["model"].items())
    assert 0 < made._alpha_policy.alpha(0) < 1


def test_training_learns(tiny_spec):
    spec = tiny_spec(
        model={"width": 8, "projector": {"layers": 2, "hidden": 128, "out": 128}},
        training={"epochs": 10, "batch_size": 256},
        evaluation={"every_epochs": 10},
    )
    made, points = recorded(spec)
    untrained = made.evaluate()
    last = made.fit()
    measured = [v for _, _, v in points if "loss_sample" in v]
    assert measured[-1]["loss_sample"] < 0.85 * measured[0]["loss_sample"]
    assert last["knn_top1"] > untrained
    assert last["knn_top1"] > 0.93


def test_the_exported_encoder_is_the_trained_one(tiny_spec, tmp_path):
    made, _ = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}))
    made.fit()
    made.export_encoder(tmp_path)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(load_encoder(tmp_path)(images), made._model.encoder.eval()(images))


def test_specs_that_cannot_be_trained_are_refused(tiny_spec):
    with pytest.raises(ValueError, match="1438 training images"):
        Trainer(tiny_spec(training={"batch_size": 4096}))
    search = {"algorithm": "grid", "space": {"training.seed": {"choice": [0, 1]}}}
    with pytest.raises(ValueError, match="search"):
        Trainer(tiny_spec(search=search))


def test_settings_come_from_the_spec_and_not_from_the_state(tiny_spec):
    source, _ = recorded(tiny_spec(training={"weight_decay": 0.5}))
    source.train_epoch()
    made, points = recorded(tiny_spec(training={"weight_decay": 0.25, "lr": 1e-3}))
    made.load_state_dict(source.state_dict())
    assert made._optimizer.param_groups[0]["weight_decay"] == 0.25
    made.train_epoch()
    assert points[0][2]["lr"] == pytest.approx(1e-3, rel=0.2)
    other, _ = recorded(tiny_spec(training={"optimizer": "sgd"}))
    with pytest.raises(CheckpointError, match="another optimiser"):
        other.load_state_dict(source.state_dict())


def test_the_example_sweep_can_be_trained():
    text = Path(__file__).parents[2].joinpath("examples", "digits-sweep.yaml").read_bytes()
    spec = parse_spec(text)
    plans = plan_trials(spec.search)
    assert len(plans) == 4
    for plan in plans:
        made = Trainer(spec.with_params(plan.params), device="cpu")
        assert made.steps_per_epoch == 5
