"""Spaces as trees of distributions, quasi-random sequences, points, and what a search may not combine."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from adadim_core.spec import Problem, SpecError, parse_spec, plan_trials, trial_label, validate_spec
from adadim_core.spec.halton import halton
from adadim_core.spec.search import SearchSpec
from adadim_core.spec.space import combinations, locate, resolve, with_distributions

Problems = Callable[..., list[Problem]]

CONDITIONAL = {
    "choice": [
        {"policy": "adaptive", "smoothing": {"uniform": [0.0, 0.9]}},
        {"policy": "fixed", "alpha": {"uniform": [0.0, 1.0]}},
        {"policy": "cosine"},
    ]
}


def search(**fields: Any) -> dict[str, Any]:
    space = {"objective.weighting": CONDITIONAL, "training.lr": {"log_uniform": [0.01, 1.0]}}
    return {"name": "a", "search": {"trials": 30, "space": space} | fields}


@pytest.mark.parametrize("algorithm", ["random", "quasi_random"])
def test_a_choice_draws_the_spaces_of_the_alternative_it_takes(algorithm: str) -> None:
    spec = validate_spec(search(algorithm=algorithm))
    weightings = [plan.params["objective.weighting"] for plan in plan_trials(spec)]
    assert {weighting["policy"] for weighting in weightings} == {"adaptive", "fixed", "cosine"}
    fixed = [weighting for weighting in weightings if weighting["policy"] == "fixed"]
    assert all(weighting.keys() == {"policy", "alpha"} for weighting in fixed)
    assert len({weighting["alpha"] for weighting in fixed}) == len(fixed)


def test_a_grid_takes_nested_choices_and_no_nested_ranges(problems: Problems) -> None:
    nested = {"choice": [{"policy": "fixed", "alpha": {"choice": [0.0, 0.5, 1.0]}}, {"policy": "adaptive"}]}
    spec = validate_spec({"name": "a", "search": {"algorithm": "grid", "space": {"objective.weighting": nested}}})
    assert len(plan_trials(spec)) == 4
    (problem,) = problems({"name": "a", "search": {"algorithm": "grid", "space": {"objective.weighting": CONDITIONAL}}})
    assert "a grid takes choices only" in problem.message


def test_bounds_within_an_alternative_are_checked_at_submission(problems: Problems) -> None:
    wrong = {"choice": [{"policy": "fixed", "alpha": {"uniform": [0.5, 1.5]}}]}
    (problem,) = problems(search(space={"objective.weighting": wrong}))
    assert problem.pointer == "/search/space/objective.weighting"
    assert "less than or equal to 1" in problem.message
    reversed_bounds = {"choice": [{"policy": "fixed", "alpha": {"uniform": [0.5, 0.1]}}]}
    (problem,) = problems(search(space={"objective.weighting": reversed_bounds}))
    assert "low < high" in problem.message


def test_a_deeply_nested_space_is_read_quickly() -> None:
    node: Any = 0.1
    for _ in range(12):
        node = {"choice": [node, {"choice": [0.2, node]}]}
    with pytest.raises(SpecError):
        validate_spec(search(space={"training.lr": node}))


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_what_is_drawn_is_found_again(seed: int, number: int) -> None:
    """The draws of a value give the value: how TPE is told what an earlier attempt chose."""
    spec = validate_spec(search())
    assert spec.search is not None
    rng = random.Random(f"{seed}/{number}")
    params = json.loads(json.dumps(spec.search.assignment(lambda _, d: d.at(rng.random()))))
    draws = spec.search.draws(params)
    assert spec.search.assignment(lambda name, _: draws[name]) == params


def test_a_value_outside_the_space_has_no_draws() -> None:
    built = with_distributions(CONDITIONAL)
    assert locate(built, {"policy": "fixed", "alpha": 1.5}, "") is None
    assert locate(built, {"policy": "fixed"}, "") is None
    assert locate(with_distributions({"integer": [1, 3]}), True, "") is None
    assert resolve(built, "", lambda _, d: 2) == {"policy": "cosine"}


# -- quasi-random -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 6])
def test_quasi_random_points_lie_more_evenly_than_random_ones(dimensions: int) -> None:
    rng = random.Random(0)
    for seed in range(5):
        quasi = [halton(index, dimensions, seed=seed) for index in range(128)]
        chance = [[rng.random() for _ in range(dimensions)] for _ in range(128)]
        assert all(0.0 <= u < 1.0 for point in quasi for u in point)
        assert qmc.discrepancy(quasi) < 0.5 * qmc.discrepancy(chance)


def test_every_block_of_a_base_hits_every_cell_once() -> None:
    """The law of the sequence, which the permutations keep: base^k consecutive points, one in each of base^k cells."""
    points = [halton(index, 2, seed=7) for index in range(27)]
    assert sorted(int(point[1] * 27) for point in points) == list(range(27))
    assert sorted(int(point[0] * 16) for point in points[:16]) == list(range(16))


# -- points, TPE, schedulers --------------------------------------------------------------------------------------

POINT = {"training.lr": 0.1, "objective.weighting": {"policy": "fixed", "alpha": 0.25}}


def test_points_come_first() -> None:
    for algorithm in ("random", "quasi_random", "tpe"):
        plans = plan_trials(validate_spec(search(algorithm=algorithm, points=[POINT])))
        assert plans[0].params == POINT
        assert len(plans) == 30
        assert bool(plans[1].params) == (algorithm != "tpe")
    values = {"training.seed": {"choice": [1, 2, 3]}}
    grid = {"name": "a", "search": {"algorithm": "grid", "space": values, "points": [{"training.seed": 3}]}}
    assert [plan.params["training.seed"] for plan in plan_trials(validate_spec(grid))] == [3, 1, 2]


def test_what_tpe_has_yet_to_choose_is_called_so() -> None:
    spec = validate_spec(search(algorithm="tpe"))
    assert trial_label(spec, {}) == "not chosen yet"
    assert trial_label(spec, POINT) == "fixed 0.25, lr=0.1"


def test_tpe_validates_the_corners_of_its_space_at_submission(problems: Problems) -> None:
    space = {"training.epochs": {"integer": [20, 40]}, "training.warmup_epochs": {"integer": [0, 30]}}
    found = problems(search(algorithm="tpe", space=space))
    assert "warmup_epochs (30) must be smaller than epochs (20)" in found[0].message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": [{"training.lr": 0.1}]}, "exactly the paths of space; check objective.weighting"),
        ({"points": [POINT | {"training.lr": 2.0}]}, "point 0: training.lr is not in the space"),
        ({"points": [POINT, POINT]}, "point 1 is listed twice"),
        ({"points": [POINT], "trials": 1, "algorithm": "grid"}, "trials is not for a grid"),
        ({"algorithm": "quasi_random", "trials": None}, "a quasi_random search needs trials"),
        ({"scheduler": {"name": "hyperband"}}, "should be one of 'none', 'asha', 'median', 'pbt'"),
        ({"scheduler": {"name": "asha", "grace_epochs": 100}}, "grace_epochs (100) must be smaller than"),
        ({"scheduler": {"name": "pbt"}}, "not objective.weighting"),
        (
            {"scheduler": {"name": "pbt"}, "algorithm": "tpe", "space": {"training.lr": {"uniform": [0.1, 0.2]}}},
            "scheduler pbt chooses values itself",
        ),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(problems: Problems, fields: dict[str, Any], message: str) -> None:
    found = problems(search(**fields))
    assert any(message in problem.message for problem in found), found


def test_pbt_has_no_limit_of_its_own(problems: Problems) -> None:
    document = search(scheduler={"name": "pbt"}, space={"training.lr": {"uniform": [0.1, 0.2]}})
    (found,) = problems(document | {"resources": {"max_concurrent_trials": 2}})
    assert "leave out resources.max_concurrent_trials" in found.message


def test_pbt_takes_trials_of_one_worker(problems: Problems) -> None:
    document = search(scheduler={"name": "pbt"}, space={"training.lr": {"uniform": [0.1, 0.2]}})
    assert validate_spec(document).search is not None
    (problem,) = problems(document | {"resources": {"workers": 2}})
    assert "resources.workers: 1" in problem.message


def test_a_scheduler_needs_a_metric_that_is_measured_while_training(problems: Problems) -> None:
    late = {"evaluation": {"linear_probe": "offline"}}
    document = search(metric="linear_top1") | late
    assert validate_spec(document).search is not None
    for early in ({"search": document["search"] | {"scheduler": {"name": "median"}}}, {"stop": {"plateau": {}}}):
        (problem,) = problems(document | early)
        assert "use evaluation.linear_probe: online" in problem.message


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "npz", "medmnist", "image_folder"])
def test_a_metric_of_several_labels_is_refused_where_images_are_known_to_have_one(
    problems: Problems, dataset: str
) -> None:
    data = {"dataset": dataset} if dataset == "digits" else {"dataset": dataset, "path": "/data"}
    document = search(metric="knn_map") | {"data": data}
    if dataset not in ("digits", "cifar10"):
        assert validate_spec(document).search is not None, "known once the file is read"
        return
    (found,) = problems(document)
    assert f"search.metric knn_map needs several labels per image, and {dataset} has one: use knn_top1" in found.message


def test_the_examples_are_valid() -> None:
    for file in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")):
        assert parse_spec(file.read_text()).name == file.stem


def test_combinations_stay_lazy() -> None:
    space = {f"training.{name}": {"choice": list(range(1, 900))} for name in ("accumulate", "epochs", "batch_size")}
    spec = SearchSpec.model_validate({"algorithm": "tpe", "trials": 3, "space": space})
    assert len(list(itertools.islice(combinations(spec.space), 5))) == 5
