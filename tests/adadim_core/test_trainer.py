"""The training loop: what it reports, that it resumes exactly, survives NaN, and learns."""

import math
import re
import threading
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adadim_core import load_dataset, load_encoder, measurement
from adadim_core.checkpoint import CheckpointError
from adadim_core.data import DataError
from adadim_core.models import EncoderConfig, register_backbone
from adadim_core.models import encoder as encoder_module
from adadim_core.objective import objective
from adadim_core.spec import ExperimentSpec, parse_spec, plan_trials, validate_spec
from adadim_core.spec.metrics import METRICS
from adadim_core.trainer import Trainer

Points = list[tuple[int, float, dict[str, float]]]

OF_IMAGES = {name for name, metric in METRICS.items() if metric.needs_labels or metric.of_all_images}
STEP_METRICS = set(METRICS) - OF_IMAGES - {"collapsed", "gpu_memory", "gpu_utilization"}
START_METRICS = {"h_r", "i_rz", "erank_r", "erank_z", "uniformity", "loss_mi", "balance", "alpha", "beta"}


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
    evaluated = {"knn_top1", "rankme"}  # R has too few dimensions for alpha-ReQ
    assert measured == [(s, s / 11) for s in steps]
    assert [(s, e) for s, e, v in points if set(v) == evaluated] == [(22, 2.0), (33, 3.0)]
    assert (points[0][:2], set(points[0][2])) == ((0, 0.0), START_METRICS)
    assert len(points) == 1 + len(steps) + 2
    assert all(isinstance(v, float) and math.isfinite(v) for _, _, values in points for v in values.values())
    assert last == {**points[-2][2], **points[-1][2]}
    with pytest.raises(RuntimeError, match="33 of 33 steps"):
        made.train_epoch()
    with pytest.raises(RuntimeError, match="33 of 33 steps"):
        made.train_steps(1)
    with pytest.raises(ValueError, match="at least 1"):
        made.train_steps(0)


def test_the_loss_is_the_sum_of_its_weighted_parts(tiny_spec):
    spec = tiny_spec(objective={"mutual_information": {"gamma": 0.5}})
    made, points = recorded(spec)
    made.train_epoch()
    for _, _, v in points:
        if "loss" in v:
            parts = (1 - v["alpha"]) * v["loss_dimension"] + v["alpha"] * v["loss_sample"] + v["beta"] * v["loss_mi"]
            assert v["loss"] == pytest.approx(parts, rel=1e-5)
            vicreg = 25 * v["loss_invariance"] + 25 * v["loss_variance"] + v["loss_covariance"]
            assert v["loss_dimension"] == pytest.approx(vicreg, rel=1e-5)
            assert v["beta"] == pytest.approx(0.5 * v["alpha"])


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({}, id="adamw"),
        pytest.param(
            {"objective": {"weighting": {"policy": "adaptive", "smoothing": 0.5, "every_epochs": 2}}},
            id="smoothed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"objective": {"weighting": {"policy": "cosine"}, "dimension_loss": {"name": "barlow_twins"}}}, id="cosine"
        ),
        pytest.param(
            {"training": {"optimizer": "lars", "lr": 0.3}, "model": {"backbone": "resnet18"}},
            id="lars resnet18",
            marks=pytest.mark.slow,
        ),
        pytest.param({"training": {"precision": "bfloat16", "optimizer": "sgd"}}, id="sgd bfloat16"),
    ],
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
        assert last.keys() == whole._reports.last.keys()
        weights = whole.state_dict()["model"]
        assert all(torch.equal(tensor, weights[name]) for name, tensor in second.state_dict()["model"].items())


STOPPED_ANYWHERE = {
    "adaptive, online probe, clipped": {
        "evaluation": {"linear_probe": "online"},
        "training": {"clip_norm": 1.0},
        "objective": {
            "weighting": {"policy": "adaptive", "normalizer": "gain", "rows": 60, "smoothing": 0.5},
            "balancing": "initial",
            "mutual_information": {"lag_epochs": 1},
        },
    },
    "collapsing, in parts": {
        "training": {"accumulate": 3, "collapse": {"share": 0.95, "stop": False}, "optimizer": "lars", "lr": 0.3},
        "evaluation": {"linear_probe": "offline", "every_epochs": 2},
        "objective": {"balancing": "gradient"},
    },
}


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, tuple[Points, dict[str, torch.Tensor]]]:
    """What each run gives when nothing stops it, once made."""
    return {}


@pytest.mark.parametrize("name", STOPPED_ANYWHERE)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 32), min_size=1, max_size=3, unique=True).map(sorted))
@example(stops=[1, 11, 32])
def test_a_run_stopped_at_any_step_is_the_uninterrupted_run(tiny_spec, tmp_path, uninterrupted, name, stops):
    sections = STOPPED_ANYWHERE[name]
    spec = tiny_spec(**{**sections, "training": {"epochs": 3, **sections["training"]}})
    if name not in uninterrupted:
        whole, points = recorded(spec)
        whole.fit()
        uninterrupted[name] = (points, whole.state_dict()["model"])
    expected, weights = uninterrupted[name]
    made, points = recorded(spec)
    parts = [points]
    for stop in stops:
        made.train_steps(stop - made.step)
        assert made.step == stop
        made.save(tmp_path / "state.pt")
        torch.manual_seed(stop)  # what the process drew meanwhile must not matter
        made, points = recorded(spec)
        made.load(tmp_path / "state.pt")
        parts.append(points)
    made.fit()
    assert comparable(list(chain(*parts))) == comparable(expected)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in made.state_dict()["model"].items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_with_dropout_stopped_within_an_epoch_is_the_uninterrupted_run(
    tiny_spec, tmp_path, monkeypatch, precision
):
    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone(
        "dropout",
        lambda config: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(config.image_size**2, 24), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        ),
    )
    spec = tiny_spec(training={"epochs": 2, "precision": precision})
    whole, expected = recorded(spec, backbone="dropout")
    whole.fit()
    first, before = recorded(spec, backbone="dropout")
    first.train_steps(15)
    first.save(tmp_path / "state.pt")
    torch.manual_seed(1)  # what the process drew meanwhile must not matter
    second, after = recorded(spec, backbone="dropout")
    second.load(tmp_path / "state.pt")
    second.fit()
    assert comparable(before + after) == comparable(expected)
    weights = whole.state_dict()["model"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in second.state_dict()["model"].items())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny_spec, tmp_path, caplog):
    spec, path = tiny_spec(training={"epochs": 2}), tmp_path / "state.pt"
    whole, expected = recorded(spec)
    whole.fit()
    first, before = recorded(spec)
    first.train_steps(5)
    first.save(path)
    points_saved = len(before)
    first.train_steps(4)
    first.save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    second, after = recorded(spec)
    second.load(path)
    assert second.step == 5
    assert "going on from the one before" in caplog.text
    second.fit()
    assert comparable(before[:points_saved] + after) == comparable(expected)


def test_reports_that_come_late_are_the_same(tiny_spec):
    spec = tiny_spec(training={"epochs": 2, "log_every_steps": 1})
    made, expected = recorded(spec)
    made.fit()
    late, points = recorded(spec)
    late._reports.late = True
    late.train_steps(3)
    assert [step for step, _, _ in points] == [0, 1, 2, 3]  # none is left under way between calls
    late.fit()
    assert comparable(points) == comparable(expected)


def test_gradients_are_clipped(tiny_spec):
    def first_update(clip_norm: float | None) -> torch.Tensor:
        made, _ = recorded(tiny_spec(training={"optimizer": "sgd", "lr": 1.0, "clip_norm": clip_norm}))
        before = torch.cat([p.detach().flatten().clone() for p in made._model.parameters()])
        made.train_steps(1)
        lr = made._training.optimizer.param_groups[0]["lr"]
        return (torch.cat([p.detach().flatten() for p in made._model.parameters()]) - before) / lr

    free, clipped, loose = first_update(None), first_update(0.5), first_update(1e6)
    assert free.norm() > 1
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-2)
    torch.testing.assert_close(loose, free)


def test_compiling_falls_back_with_a_warning(tiny_spec, monkeypatch, caplog):
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", refuse))
    plain, expected = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}))
    plain.fit()
    made, points = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0, "compile": True}))
    assert caplog.messages == ["torch.compile failed, training goes on without it: no compiler"]
    made.fit()
    assert comparable(points) == comparable(expected)


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(tiny_spec, monkeypatch, tmp_path, caplog):
    # Traced and cut into graphs as ever, but not translated to C++: that takes half a minute.
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_in_place(self, backend="aot_eager"))
    training = {"epochs": 2, "log_every_steps": 11}
    plain, expected = recorded(tiny_spec(training=training))
    plain.fit()
    made, points = recorded(tiny_spec(training={**training, "compile": True}))
    assert not [record for record in caplog.records if record.name == "adadim_core.building"]
    made.fit()
    made.save(tmp_path / "state.pt")
    for (*_, ours), (*_, theirs) in zip(points, expected, strict=True):
        for key in theirs.keys() - {"images_per_s"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-2, abs=1e-2), key
    uncompiled, _ = recorded(tiny_spec(training=training))
    uncompiled.load(tmp_path / "state.pt")  # states do not depend on how the network is run
    assert uncompiled.done


def test_a_backbone_from_python_is_trained(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone(
        "linear", lambda config: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(config.image_size**2, 12))
    )
    made, _ = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}), backbone="linear")
    assert "knn_top1" in made.fit()
    made.export_encoder(tmp_path)
    assert load_encoder(tmp_path).features == 12
    assert "register_backbone('linear', ...)" in (tmp_path / "README.md").read_text()
    del encoder_module._BACKBONES["linear"]
    with pytest.raises(CheckpointError, match="no backbone is called 'linear'"):
        load_encoder(tmp_path)


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
    with pytest.raises(CheckpointError, match="in batches of 128, not of 64"):
        other_batch.load(path)
    digits = load_dataset("digits")
    # As many steps an epoch, but other images in other batches.
    for spec, images in ((tiny_spec(), 1409), (tiny_spec(training={"batch_size": 130}), 1438)):
        data = replace(digits, train_images=digits.train_images[:images], train_labels=digits.train_labels[:images])
        other, _ = recorded(spec, data=data)
        assert other.steps_per_epoch == made.steps_per_epoch
        with pytest.raises(CheckpointError, match=r"then 1438 images|in batches of 128"):
            other.load(path)
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
    original = measurement.information_quantities
    monkeypatch.setattr("adadim_core.objective.mutual_information", None)
    monkeypatch.setattr(
        "adadim_core.measurement.information_quantities",
        lambda *a, **k: calls.append(torch.is_grad_enabled()) or original(*a, **k),
    )
    made, points = recorded(
        tiny_spec(training={"log_every_steps": 1000}, objective={"mutual_information": {"gamma": 0.0}})
    )
    made.train_epoch()
    # At the start and where it is logged, never with gradient.
    assert calls == [False, False]
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
    untrained = made.evaluate()["knn_top1"]
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
    loaded = load_encoder(tmp_path)
    assert not loaded(images).requires_grad
    torch.testing.assert_close(loaded(images), made.encoder.eval()(images).detach())
    torch.testing.assert_close(loaded(images.double() / 255), loaded(images))
    for wrong in (images.long(), images[0], images.expand(-1, 3, -1, -1)):
        with pytest.raises(ValueError, match=r"\(N, 1, H, W\) are needed|images must be uint8"):
            loaded(wrong)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("# tiny\n")
    assert "load_encoder" in card
    assert "1 of 1 epochs (11 steps), on `digits`" in card
    assert "lr: 0.002" in card
    assert f"| `knn_top1` | {made._reports.last['knn_top1']:.4g} |" in card


@pytest.mark.parametrize(
    "objective",
    [
        {"weighting": {"policy": "fixed", "alpha": 0.5}},
        {"weighting": {"policy": "adaptive", "floor": 0.25}},
        {"dimension_loss": {"name": "barlow_twins"}, "mutual_information": {"gamma": 0.5}},
    ],
)
def test_what_the_card_says_of_the_spec_gives_the_same_spec(tiny_spec, tmp_path, objective):
    spec = tiny_spec(objective=objective)
    Trainer(spec).export_encoder(tmp_path)
    card = (tmp_path / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert parse_spec(block) == spec


def test_specs_that_cannot_be_trained_are_refused(tiny_spec):
    with pytest.raises(ValueError, match="1438 training images"):
        Trainer(tiny_spec(training={"batch_size": 4096}))
    with pytest.raises(TypeError, match="parse_spec"):
        Trainer("name: a")
    images, labels = torch.zeros(256, 1, 8, 12, dtype=torch.uint8), torch.zeros(256, dtype=torch.int64)
    oblong = replace(
        load_dataset("digits"), train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    with pytest.raises(ValueError, match=r"12 x 8 pixels: set data\.image_size"):
        Trainer(tiny_spec(), data=oblong)
    search = {"algorithm": "grid", "space": {"training.seed": {"choice": [0, 1]}}}
    with pytest.raises(ValueError, match="search"):
        Trainer(tiny_spec(search=search))


def test_settings_come_from_the_spec_and_not_from_the_state(tiny_spec):
    source, _ = recorded(tiny_spec(training={"weight_decay": 0.5}))
    source.train_epoch()
    made, points = recorded(tiny_spec(training={"weight_decay": 0.25, "lr": 1e-3}))
    made.load_state_dict(source.state_dict())
    assert made._training.optimizer.param_groups[0]["weight_decay"] == 0.25
    made.train_epoch()
    assert points[0][2]["lr"] == pytest.approx(1e-3, rel=0.2)
    other, _ = recorded(tiny_spec(training={"optimizer": "sgd"}))
    before = {name: tensor.clone() for name, tensor in other.state_dict()["model"].items()}
    with pytest.raises(CheckpointError, match="another optimiser"):
        other.load_state_dict(source.state_dict())
    for name, tensor in other.state_dict()["model"].items():
        assert torch.equal(tensor, before[name]), "a state that is refused changes nothing"


def test_a_collapse_in_bfloat16_is_no_rank(tiny_spec, monkeypatch):
    class Collapsed(torch.nn.Module):
        """Nearly the same R for every image."""

        def __init__(self, config: EncoderConfig) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(config.image_size**2, 64)
            torch.nn.init.ones_(self.linear.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(4e-3 * x.flatten(1))

    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone("collapsed", Collapsed)
    spec = tiny_spec(model={"projector": {"layers": 1, "out": 64}}, training={"precision": "bfloat16"})
    made, points = recorded(spec, backbone="collapsed")
    made.train_steps(1)
    start = points[0][2]
    assert start["erank_r"] == 1
    assert start["h_r"] == pytest.approx(0, abs=1e-6)
    assert start["alpha"] < 0.1


def test_images_of_ones_own_are_trained(tiny_spec, tmp_path):
    digits = load_dataset("digits")
    data = replace(digits, name="mine", train_images=digits.train_images[:256], train_labels=digits.train_labels[:256])
    made = Trainer(tiny_spec(), data=data, device="cpu")
    assert made.steps_per_epoch == 2
    made.train_epoch()
    made.export_encoder(tmp_path)
    assert "on `mine`" in (tmp_path / "README.md").read_text()


def test_a_spec_for_images_of_ones_own_knows_no_other_set():
    document = {"name": "own", "training": {"batch_size": 2048}}
    with pytest.raises(ValueError, match="1438 training images"):
        validate_spec(document)
    spec = validate_spec(document, own_data=True).with_params({"model.backbone": "conv_small", "model.width": 2})
    assert parse_spec("name: own\ntraining: {batch_size: 2048}", own_data=True).training == spec.training
    digits = load_dataset("digits")
    twice = torch.arange(2 * 1438) % 1438
    data = replace(digits, train_images=digits.train_images[twice], train_labels=digits.train_labels[twice])
    assert Trainer(spec, data=data, device="cpu").steps_per_epoch == 1
    with pytest.raises(ValueError, match="larger than the 1438 training images"):
        Trainer(spec, data=digits, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": torch.zeros(1438, 1, 8, 8, dtype=torch.int64)}, "train_images must be uint8"),
        ({"test_images": torch.zeros(359, 1, 8, 8)}, "test_images must be uint8"),
        ({"train_images": torch.zeros(1438, 8, 8, dtype=torch.uint8)}, r"\(N, C, H, W\)"),
        ({"train_labels": torch.zeros(1437, dtype=torch.int64)}, "one for each of 1438 images"),
        ({"test_labels": torch.zeros(359)}, "test_labels must be int64"),
        ({"test_labels": torch.full((359,), -1)}, "test_labels must be at least 0"),
        ({"test_images": torch.zeros(359, 1, 9, 9, dtype=torch.uint8)}, r"\(1, 8, 8\) and \(1, 9, 9\)"),
        ({"mean": (0.1, 0.2, 0.3)}, "1 channels need as many means"),
        ({"std": (0.0,)}, "must be positive"),
    ],
)
def test_images_of_ones_own_are_checked(change, message):
    with pytest.raises(DataError, match=message):
        replace(load_dataset("digits"), **change)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_loss_without_weight_costs_no_gradient_and_its_infinity_stays_out(tiny_spec, draw, alpha):
    spec = tiny_spec().objective
    z1, z2 = (draw(16, 8).requires_grad_() for _ in range(2))
    terms = objective(spec, z1, z2, None, alpha=alpha, beta=0.0)
    unused, used = (terms.sample, terms.dimension) if alpha == 0 else (terms.dimension, terms.sample)
    assert not unused.requires_grad
    assert terms.total.item() == used.item()
    huge = objective(spec, 1e200 * z1, 1e200 * z2, None, alpha=1.0, beta=0.0)
    assert not math.isfinite(huge.dimension.item())
    assert math.isfinite(huge.total.item())


def test_no_forward_pass_is_larger_than_a_step_in_parts(tiny_spec):
    made, _ = recorded(tiny_spec(training={"accumulate": 4}))
    sizes: set[int] = set()
    made._model.encoder.register_forward_pre_hook(lambda _, images: sizes.add(len(images[0])))
    made.train_epoch()
    assert max(sizes) == 2 * 128 // 4


def test_the_example_sweep_can_be_trained():
    text = Path(__file__).parents[2].joinpath("examples", "digits-sweep.yaml").read_bytes()
    spec = parse_spec(text)
    plans = plan_trials(spec)
    assert len(plans) == 40
    for plan in plans[:4]:
        made = Trainer(spec.with_params(plan.params), device="cpu")
        assert made.steps_per_epoch == 5


def test_late_reports_do_not_hold_training_up(tiny_spec, monkeypatch):
    """The eigenvalues of a step are taken beside the steps that follow, up to the next that is measured."""
    made, points = recorded(tiny_spec(training={"log_every_steps": 4}))
    made._reports.late = True
    made.train_steps(3)
    released = threading.Event()
    original = measurement.information_quantities

    def held(*args: Any) -> Any:
        assert released.wait(60)
        return original(*args)

    monkeypatch.setattr(measurement, "information_quantities", held)
    reached: list[int] = []
    train_step = made._train_step

    def watched(*args: Any) -> None:
        train_step(*args)
        reached.append(made.step)
        if made.step == 7:
            assert [step for step, _, _ in points] == [0]
            released.set()

    monkeypatch.setattr(made, "_train_step", watched)
    made.train_steps(5)
    assert reached == [4, 5, 6, 7, 8]
    assert [step for step, _, _ in points] == [0, 4, 8]


def test_what_fails_in_a_late_measurement_is_raised(tiny_spec, monkeypatch):
    made, _ = recorded(tiny_spec(training={"log_every_steps": 1}))
    made._reports.late = True
    made.train_steps(1)
    monkeypatch.setattr(measurement, "information_quantities", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.train_steps(1)
