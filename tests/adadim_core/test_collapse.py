"""The collapse watch: when it flags, and a run that really collapses."""

import math

import pytest
from torch import nn

from adadim_core.collapse import CollapseWatch
from adadim_core.models import encoder as encoder_module
from adadim_core.models import register_backbone
from adadim_core.spec.sections import CollapseSpec
from adadim_core.trainer import Trainer

# Only the pull of the two views towards each other: the known way to make all representations the same.
INVARIANCE_ONLY = {
    "dimension_loss": {"name": "vicreg", "variance": 0.0, "covariance": 0.0},
    "weighting": {"policy": "fixed", "alpha": 0.0},
}


def test_flags_once_and_by_the_maximum_so_far():
    watch = CollapseWatch(CollapseSpec(share=0.5))
    ranks = [4.0, 10.0, 6.0, 5.0, 4.9, 1.0]
    assert [watch.observe(step, rank) for step, rank in enumerate(ranks)] == [False] * 4 + [True, False]
    assert watch.step == 4


def test_a_rank_that_is_not_a_number_is_passed_over_and_no_share_is_no_watch():
    watch = CollapseWatch(CollapseSpec(share=0.5))
    assert not any(watch.observe(step, rank) for step, rank in enumerate([8.0, math.nan, math.inf, 7.0]))
    off = CollapseWatch(CollapseSpec(share=0.0))
    assert not any(off.observe(step, rank) for step, rank in enumerate([8.0, 1.0, 0.0]))


def test_the_state_is_the_watch():
    watch, second = CollapseWatch(CollapseSpec()), CollapseWatch(CollapseSpec())
    watch.observe(0, 40.0)
    second.load_state_dict(watch.state_dict())
    assert second.observe(7, 9.0)
    assert second.step == 7


@pytest.fixture
def collapsing(tiny_spec, monkeypatch):
    """Makes a trainer. Its network has no BatchNorm, which would keep the rank up whatever the loss does."""
    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone(
        "perceptron",
        lambda config: nn.Sequential(nn.Flatten(), nn.Linear(config.image_size**2, 64), nn.ReLU(), nn.Linear(64, 32)),
    )

    def _trainer(*, stop, report=lambda *_: None):
        spec = tiny_spec(
            objective=INVARIANCE_ONLY,
            model={"projector": {"layers": 1, "out": 32}},
            training={"epochs": 10, "lr": 0.02, "warmup_epochs": 0, "collapse": {"stop": stop}},
        )
        return Trainer(spec, device="cpu", backbone="perceptron", report=report)

    return _trainer


@pytest.mark.parametrize("late", [False, True], ids=["cpu", "as on a gpu"])
def test_a_collapsing_run_is_flagged_and_ended(collapsing, tmp_path, late):
    points = []
    made = collapsing(stop=True, report=lambda s, e, v: points.append((s, dict(v))))
    made._reports.late = late
    last = made.fit()
    assert made.done
    assert made.collapsed_at is not None
    assert made.collapsed_at % 4 == 0 or made.collapsed_at % 11 == 0
    assert made.step == made.collapsed_at + (late and made.collapsed_at % 11 != 0)
    assert made.step < 10 * 11
    ranks = [values["erank_r"] for _, values in points if "erank_r" in values]
    assert ranks[-1] < 0.25 * max(ranks)
    assert [step for step, values in points if "collapsed" in values] == [made.collapsed_at]
    assert last["collapsed"] == 1
    assert "knn_top1" in points[-1][1]  # the last evaluation always counts

    made.save(tmp_path / "state.pt")
    second = collapsing(stop=True)
    second.load(tmp_path / "state.pt")
    assert second.done
    assert second.collapsed_at == made.collapsed_at


def test_a_flagged_run_goes_on_where_it_should(collapsing):
    made = collapsing(stop=False)
    last = made.fit()
    assert made.step == 10 * 11
    assert made.collapsed_at is not None
    assert last["collapsed"] == 1


def test_a_sound_run_is_not_flagged(tiny_spec):
    made = Trainer(tiny_spec(), device="cpu")
    assert "collapsed" not in made.fit()
    assert made.collapsed_at is None
