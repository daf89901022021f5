"""The methods paragraph says what was done: schedule, seeds, tests and levels."""

from typing import Any

import pytest

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.report.material import Material
from adadim_core.report.methods import paragraph
from adadim_core.spec import validate_spec

WEIGHTINGS = [{"policy": "fixed", "alpha": k / 10} for k in range(3)]
SPACE = {"objective.weighting": {"choice": WEIGHTINGS}}
RACE = {"scheduler": {"name": "race"}, "given": {"first": 3, "most": 5}}


def methods(
    training: dict[str, Any] | None = None,
    *,
    seeds: tuple[int, ...] = (4, 4, 4),
    given: Any = 4,
    objective: dict[str, Any] | None = None,
    preset: str | None = None,
    **search: Any,
) -> str:
    """Of a sweep whose configurations have so many seeds each."""
    asked = {"algorithm": "grid", "seeds": given, "space": SPACE} | search
    sections = {"training": training or {}, "objective": objective or {}}
    spec = validate_spec({"name": "x", "preset": preset, **sections, "search": asked})
    values = ((0.80, 0.81, 0.82, 0.80, 0.81), (0.80, 0.80, 0.81, 0.82, 0.80), (0.60, 0.62, 0.60, 0.61, 0.62))
    trials = [
        TrialRow(5 * k + seed, {"objective.weighting": WEIGHTINGS[k], "training.seed": seed}, "succeeded", 9, 9,
                 {"knn_top1": values[k][seed]})
        for k, count in enumerate(seeds)
        for seed in range(count)
    ]  # fmt: skip
    return paragraph(Material("x", spec.model_dump(mode="json"), answer(Question.of(spec), trials), {}, "here"))


def test_seeds_are_a_range_where_configurations_differ_in_them() -> None:
    assert "over 4 common seeds (0, 1, 2, 3):" in methods()
    assert "over 3 to 5 seeds each:" in methods(seeds=(5, 5, 3))


def test_a_race_is_told_as_the_sequential_test_it_is() -> None:
    said = methods(None, seeds=(5, 5, 3), **RACE)
    assert "sequential test" in said
    assert "3 seeds" in said
    assert "up to 5" in said
    assert "family-wise error 0.01" in said
    assert "levels that add up to 0.04" in said
    assert "within 0.01 of each other" in methods(given=RACE["given"], scheduler={"name": "race", "indifference": 0.01})
    assert "within" not in said
    assert "sequential" not in methods()


def test_intervals_of_differences_have_their_own_level() -> None:
    """Of three pairs one is open with four seeds, two with two."""
    assert "those of differences t intervals at 1 - 0.05," in methods()
    assert "those of differences t intervals at 1 - 0.025," in methods(seeds=(2, 2, 2))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"epochs": 40}, "4 epochs of linear warm-up, cosine decay"),
        ({"epochs": 400}, "10 epochs of linear warm-up, cosine decay"),
        ({"epochs": 10}, "1 epoch of linear warm-up, cosine decay"),
        ({"epochs": 40, "warmup_epochs": 7}, "7 epochs of linear warm-up, cosine decay"),
    ],
)
def test_the_warm_up_is_the_one_that_was_trained_with(training: dict[str, Any], said: str) -> None:
    assert said in methods(training)


@pytest.mark.parametrize("training", [{"epochs": 9}, {"epochs": 40, "warmup_epochs": 0}])
def test_no_warm_up_is_not_mentioned(training: dict[str, Any]) -> None:
    said = methods(training)
    assert "warm-up" not in said
    assert ", cosine decay)" in said


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ({}, "(1 - alpha) L_dimension + alpha L_sample + beta I(R;Z) with vicreg and nt_xent, beta = 0.1 alpha."),
        ({"balancing": "initial"}, "nt_xent, each divided by its value at the first step, beta ="),
        ({"balancing": "gradient"}, "each divided by the length of its gradient at Z,"),
        (
            {"form": "single_invariance"},
            "s + (1 - alpha) (v + c) + alpha U + beta I(R;Z) with the weighted invariance s",
        ),
        ({"mutual_information": {"sign": "reward", "lag_epochs": 3}}, "beta = -0.1 alpha of 3 epochs before."),
        ({"mutual_information": {"schedule": "fixed", "gamma": 2.0}}, "beta = 2."),
        (
            {"mutual_information": {"schedule": "cosine", "lag_epochs": 1}},
            "0 to 0.1 by a cosine schedule, 1 epoch late.",
        ),
    ],
)
def test_the_objective_is_the_one_that_was_minimised(objective: dict[str, Any], said: str) -> None:
    assert said in methods(objective=objective)


def test_the_objective_of_a_spec_from_before_the_options_is_told() -> None:
    spec = validate_spec({"name": "x"}).model_dump(mode="json")
    for option in ("form", "balancing"):
        del spec["objective"][option]
    for option in ("schedule", "lag_epochs"):
        del spec["objective"]["mutual_information"][option]
    none = answer(Question.of(validate_spec({"name": "x"})), [])
    assert "beta = 0.1 alpha." in paragraph(Material("x", spec, none, {}, "here"))


def test_a_preset_is_named_beside_the_values_it_gave() -> None:
    said = methods({"epochs": 7}, preset="paper")
    assert "taken from the preset 'paper'" in said
    assert "for 7 epochs at batch size 256 with lars" in said
    assert "preset" not in methods()
