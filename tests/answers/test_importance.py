"""Swept fields: their names, their branches, and how much of the order of configurations each explains."""

from typing import Any

import numpy as np
import pytest

from adadim_core.answers.answer import Question
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import FieldImportance, Importance
from adadim_core.answers.fields import swept_fields
from adadim_core.answers.importance import importance
from adadim_core.spec import validate_spec

FIXED = [{"policy": "fixed", "alpha": k / 10} for k in range(4)]


def question(**search: Any) -> Question:
    space = {"objective.weighting": {"choice": [*FIXED, {"policy": "adaptive"}]}, "training.lr": {"choice": [0.1, 0.2]}}
    return Question.of(validate_spec({"name": "x", "search": {"algorithm": "grid", "space": space} | search}))


def sweep(count: int, value: Any, rng: np.random.Generator, branch: float = 0.0) -> list[TrialRow]:
    """Configurations at random; value(params, noise) is the accuracy, `branch` the share of adaptive ones."""
    rows = []
    for number in range(count):
        adaptive = rng.random() < branch
        params: dict[str, Any] = {
            "training.lr": float(rng.random()),
            "training.batch_size": int(rng.choice([64, 128, 256])),
            "objective.weighting": {"policy": "adaptive"}
            if adaptive
            else {"policy": "fixed", "alpha": float(rng.random())},
        }
        accuracy = float(value(params, float(rng.normal())))
        rows.append(TrialRow(number, params, "succeeded", 3, 3, {"knn_top1": accuracy}))
    return rows


def of(found: Importance, field: str) -> FieldImportance:
    return next(f for f in found.fields if f.field == field)


def test_a_field_has_a_short_name_and_a_section_has_its_kind() -> None:
    fields, values = swept_fields([
        {"objective.weighting": {"policy": "fixed", "alpha": 0.5}, "training.lr": 0.1, "training.epochs": 3},
        {"objective.weighting": {"policy": "adaptive"}, "training.lr": 0.2, "training.epochs": 3},
    ])  # fmt: skip
    assert [(f.name, f.path, f.numeric, f.within) for f in fields] == [
        ("weighting", "objective.weighting", False, None),
        ("alpha", "objective.weighting.alpha", True, "weighting=fixed"),
        ("lr", "training.lr", True, None),
    ]
    assert values == [{"weighting": "fixed", "alpha": 0.5, "lr": 0.1}, {"weighting": "adaptive", "lr": 0.2}]


def test_fields_of_the_same_name_are_told_apart() -> None:
    fields, _ = swept_fields([
        {"objective.a.weight": 1, "training.b.weight": 1},
        {"objective.a.weight": 2, "training.b.weight": 2},
    ])  # fmt: skip
    assert [f.name for f in fields] == ["a.weight", "b.weight"]


def test_what_decides_has_a_large_share_and_what_does_not_none() -> None:
    rows = sweep(120, lambda params, noise: params["training.lr"] + 0.02 * noise, np.random.default_rng(1))
    found = importance(question(), rows)
    assert found.refused is None
    assert found.fields[0].field == "lr"
    lr, batch = of(found, "lr"), of(found, "batch_size")
    assert lr.share is not None
    assert lr.share > 0.8
    assert lr.low is not None
    assert lr.high is not None
    assert 0.7 < lr.low <= lr.share <= lr.high <= 1
    assert batch.share is not None
    assert batch.share < 0.1
    assert batch.low == 0
    assert found.sentence.startswith("Of the order of 120 configurations by k-NN accuracy, lr explains ")


def test_noise_is_rarely_called_important() -> None:
    """The interval of a field without effect excludes 0 about as rarely as 95 % promise."""
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(60):
        found = importance(question(), sweep(40, lambda params, noise: noise, rng))
        called += sum(f.low is not None and f.low > 0 for f in found.fields)
    assert called <= 0.08 * 60 * 3


def test_one_diverged_configuration_hides_nothing() -> None:
    rows = sweep(60, lambda params, noise: params["training.lr"], np.random.default_rng(3))
    rows[0] = TrialRow(0, rows[0].params, "succeeded", 3, 3, {"knn_top1": -1e9})
    share = of(importance(question(), rows), "lr").share
    assert share is not None
    assert share > 0.7


def test_a_conditional_field_is_judged_within_its_branch() -> None:
    def accuracy(params: dict[str, Any], noise: float) -> float:
        weighting = params["objective.weighting"]
        return 0.5 if weighting["policy"] == "adaptive" else float(weighting["alpha"]) + 0.01 * noise

    found = importance(question(), sweep(100, accuracy, np.random.default_rng(4), branch=0.5))
    alpha = of(found, "alpha")
    assert alpha.within == "weighting=fixed"
    assert 30 < alpha.configurations < 70
    assert alpha.share is not None
    assert alpha.share > 0.8

    few = of(importance(question(), sweep(40, accuracy, np.random.default_rng(5), branch=0.7)), "alpha")
    assert few.share is None
    assert few.refused == f"{few.configurations} of the 20 configurations it takes have it"


@pytest.mark.parametrize(
    ("count", "search", "reason"),
    [
        (19, {}, "it takes 20 configurations with a result, there are 19"),
        (30, {"metric": "loss", "mode": "min"}, "its values under different objectives are different quantities"),
    ],
)
def test_it_is_refused(count: int, search: dict[str, Any], reason: str) -> None:
    rows = sweep(count, lambda params, noise: noise, np.random.default_rng(6))
    rows = [TrialRow(r.number, r.params, r.state, 3, 3, {**r.metrics, "loss": r.metrics["knn_top1"]}) for r in rows]
    asked = question()
    if search:
        asked = Question(**{**vars(asked), **search})
    found = importance(asked, rows)
    assert found.refused is not None
    assert reason in found.refused
    assert found.fields == []


def test_the_order_of_trials_changes_nothing() -> None:
    rows = sweep(50, lambda params, noise: params["training.lr"] + noise, np.random.default_rng(7))
    again = importance(question(), reversed(rows))
    assert again == importance(question(), rows)


def test_equal_results_have_no_important_field() -> None:
    found = importance(question(), sweep(30, lambda params, noise: 0.5, np.random.default_rng(8)))
    assert [f.share for f in found.fields] == [0.0, 0.0, 0.0]
    assert found.sentence == "No field alone explains the order of 30 configurations beyond chance."
