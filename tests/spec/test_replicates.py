"""Seeds: replicates in blocks, the same seeds for all, numbers that stay, and searches that may not choose a seed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadim_core.spec import (
    ExperimentSpec,
    Problem,
    configuration_of,
    plan_summary,
    plan_trials,
    planned_seeds,
    seed_of,
    trial_label,
    validate_spec,
)
from adadim_core.spec.extension import continues, extended

Problems = Callable[..., list[Problem]]
GRID = {"objective.weighting": {"choice": [{"policy": "adaptive"}, {"policy": "fixed", "alpha": 0.5}]}}
RANGES = {"training.lr": {"uniform": [0.1, 0.5]}}


def sweep(space: dict[str, Any] = GRID, *, seed: int = 0, **search: Any) -> dict[str, Any]:
    """A grid, unless the search says otherwise."""
    return {"name": "a", "training": {"seed": seed}, "search": {"algorithm": "grid", "space": space} | search}


def spec(*arguments: Any, **options: Any) -> ExperimentSpec:
    return validate_spec(sweep(*arguments, **options))


_algorithms = st.sampled_from(["grid", "random", "quasi_random", "tpe"])
_seeds = st.integers(1, 6) | st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6, unique=True)


@st.composite
def _sweeps(draw: st.DrawFn) -> dict[str, Any]:
    algorithm = draw(_algorithms)
    space = GRID if algorithm == "grid" else {**RANGES, **(GRID if draw(st.booleans()) else {})}
    trials = {} if algorithm == "grid" else {"trials": draw(st.integers(1, 5))}
    return sweep(space, seed=draw(st.integers(0, 1000)), algorithm=algorithm, seeds=draw(_seeds), **trials)


@settings(max_examples=60, deadline=None)
@given(_sweeps())
def test_every_configuration_has_the_same_seeds_in_blocks(document: dict[str, Any]) -> None:
    spec = validate_spec(document)
    plan, seeds = plan_trials(spec), planned_seeds(spec)
    assert [trial.number for trial in plan] == list(range(len(plan)))
    count, rest = divmod(len(plan), len(seeds))
    assert not rest
    for trial in plan:
        block, place = divmod(trial.number, count)
        assert trial.configuration == place
        assert seed_of(spec, trial.params) == seeds[block]
        assert configuration_of(trial.params) == configuration_of(plan[place].params)
        assert spec.with_params(trial.params).training.seed == seeds[block]


@settings(max_examples=60, deadline=None)
@given(_sweeps(), st.integers(1, 4))
def test_more_seeds_leave_the_trials_there_are_as_they_are(document: dict[str, Any], more: int) -> None:
    before, seeds = validate_spec(document), document["search"]["seeds"]
    longer = [*seeds, *(s for s in range(9) if s not in seeds)][: len(seeds) + more] if isinstance(seeds, list) else 0
    after = validate_spec({**document, "search": {**document["search"], "seeds": longer or seeds + more}})
    for old, new in zip(plan_trials(before), plan_trials(after), strict=False):
        assert (new.number, new.configuration) == (old.number, old.configuration)
        assert seed_of(after, new.params) == seed_of(before, old.params)
        assert configuration_of(new.params) == configuration_of(old.params)


@settings(max_examples=60, deadline=None)
@given(_sweeps(), st.integers(-2, 3), st.integers(-2, 3))
def test_a_sweep_continues_another_where_its_plan_begins_with_the_others(
    document: dict[str, Any], seeds: int, trials: int
) -> None:
    before, search = validate_spec(document), document["search"]
    count = len(planned_seeds(before))
    more: dict[str, Any] = {"seeds": max(count + seeds, 1)}
    if "trials" in search:
        more["trials"] = max(search["trials"] + trials, 1)
    after = validate_spec(extended(before, **more))
    rows = [
        [(p.number, p.configuration, seed_of(s, p.params), configuration_of(p.params)) for p in plan_trials(s)]
        for s in (before, after)
    ]
    assert continues(before, after) == (rows[1][: len(rows[0])] == rows[0])
    assert continues(before, before)


def test_a_sweep_that_differs_in_anything_else_does_not_continue_another() -> None:
    before = spec(seeds=2)
    assert continues(before, spec(seeds=3))
    assert not continues(spec(seeds=3), before)
    assert not continues(before, spec(seeds=3, mode="min"))
    assert not continues(before, spec(seeds=3, seed=1))
    race = {"scheduler": {"name": "race"}}
    assert continues(spec(seeds={"first": 3, "most": 9}, **race), spec(seeds={"first": 3, "most": 12}, **race))
    assert not continues(spec(seeds={"first": 3, "most": 9}, **race), spec(seeds={"first": 4, "most": 12}, **race))


def test_one_seed_is_the_specs_own_and_goes_without_saying() -> None:
    assert [trial.params.keys() for trial in plan_trials(spec(seed=7))] == [{"objective.weighting"}] * 2
    assert [trial.params["training.seed"] for trial in plan_trials(spec(seed=7, seeds=[3]))] == [3, 3]
    assert planned_seeds(spec(seed=7)) == [7]
    assert planned_seeds(ExperimentSpec(name="a")) == [0]


@pytest.mark.parametrize(
    ("document", "summary"),
    [
        ({"name": "a"}, "1 trial"),
        (sweep(), "2 configurations x 1 seed = 2 trials"),
        (sweep(seeds=5), "2 configurations x 5 seeds = 10 trials"),
        (sweep({"training.lr": {"choice": [0.1]}}, seeds=[1, 7]), "1 configuration x 2 seeds = 2 trials"),
        (sweep({**GRID, "training.seed": {"choice": [1, 2, 3]}}), "2 configurations x 3 seeds = 6 trials"),
        (
            sweep(scheduler={"name": "race"}, seeds={"first": 3, "most": 10}),
            "2 configurations x 3 to 10 seeds = at most 20 trials",
        ),
        (
            sweep(algorithm="random", trials=10, seeds=3),
            "2 configurations x 3 seeds = 6 trials (trials asks for 10; the space has no more that differ)",
        ),
        (sweep(RANGES, algorithm="tpe", trials=4, seeds=2), "4 configurations x 2 seeds = 8 trials"),
    ],
)
def test_how_much_a_spec_would_run(document: dict[str, Any], summary: str) -> None:
    assert plan_summary(validate_spec(document)) == summary


@pytest.mark.parametrize("algorithm", ["random", "quasi_random"])
def test_no_configuration_is_drawn_twice(algorithm: str) -> None:
    space = {"training.lr": {"choice": [0.1, 0.2, 0.3]}, "training.optimizer": {"choice": ["sgd", "lars"]}}
    for trials in (4, 6, 20):
        points = [{"training.lr": 0.3, "training.optimizer": "lars"}]
        plan = plan_trials(spec(space, algorithm=algorithm, trials=trials, points=points))
        found = {tuple(sorted(trial.params.items())) for trial in plan}
        assert len(found) == len(plan) == min(trials, 6)


def test_a_grid_that_lists_seeds_is_grouped_all_the_same() -> None:
    plan = plan_trials(spec({**GRID, "training.seed": {"choice": [4, 2]}}))
    assert [(trial.configuration, trial.params["training.seed"]) for trial in plan] == [(0, 4), (0, 2), (1, 4), (1, 2)]


def test_a_label_says_the_seed_where_it_tells_trials_apart() -> None:
    several, one, listed = spec(seeds=2), spec(seeds=[3]), spec({"training.seed": {"choice": [1, 2]}})
    assert [trial_label(several, trial.params) for trial in plan_trials(several)] == [
        "adaptive, seed 0", "fixed 0.5, seed 0", "adaptive, seed 1", "fixed 0.5, seed 1",
    ]  # fmt: skip
    assert trial_label(several, configuration_of(plan_trials(several)[2].params)) == "adaptive"
    assert [trial_label(one, trial.params) for trial in plan_trials(one)] == ["adaptive", "fixed 0.5"]
    assert [trial_label(listed, trial.params) for trial in plan_trials(listed)] == [
        "adaptive, seed 1",
        "adaptive, seed 2",
    ]
    tpe = spec(RANGES, algorithm="tpe", trials=1, seeds=2)
    assert trial_label(tpe, plan_trials(tpe)[1].params) == "not chosen yet, seed 1"


_with_seed = {**RANGES, "training.seed": {"integer": [0, 9]}}


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"algorithm": "tpe"}, "algorithm tpe would choose the luckiest training.seed"),
        ({"scheduler": {"name": "asha"}}, "scheduler asha would choose the luckiest training.seed"),
        ({"scheduler": {"name": "median"}}, "scheduler median would choose the luckiest training.seed"),
        ({"seeds": 2}, "training.seed is in space, and seeds is set"),
    ],
)
def test_a_search_that_selects_may_not_choose_the_seed(search: dict[str, Any], said: str, problems: Problems) -> None:
    assert said in problems(sweep(_with_seed, **{"algorithm": "random", "trials": 3} | search))[0].message


@pytest.mark.parametrize(
    "alternatives",
    [
        [{"seed": 1}, {"seed": 2}],
        [{"lr": 0.1}, {"lr": 0.1, "seed": {"integer": [0, 9]}}],
        [{"lr": 0.1}, {"choice": [{"seed": 1}, {"seed": 2}]}],
    ],
)
@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"algorithm": "tpe", "trials": 2}, "algorithm tpe would choose the luckiest training.seed"),
        (
            {"algorithm": "random", "trials": 2, "scheduler": {"name": "asha"}},
            "scheduler asha would choose the luckiest training.seed",
        ),
        (
            {"algorithm": "random", "trials": 2, "scheduler": {"name": "race"}, "seeds": {"first": 3, "most": 9}},
            "scheduler race would choose the luckiest training.seed",
        ),
        ({"algorithm": "random", "trials": 2, "seeds": 2}, "training.seed is in space, and seeds is set"),
    ],
)
def test_nor_may_it_within_values_of_the_whole_section(
    search: dict[str, Any], said: str, alternatives: list[Any], problems: Problems
) -> None:
    assert said in problems(sweep({"training": {"choice": alternatives}}, **search))[0].message


def test_a_grid_over_seeds_within_the_section_takes_no_further_seeds(problems: Problems) -> None:
    space = {"training": {"choice": [{"seed": 1}, {"seed": 2}]}}
    assert "training.seed is in space, and seeds is set" in problems(sweep(space, seeds=3))[0].message
    whole = {"training": {"choice": [{"lr": 0.1}, {"lr": 0.2}]}}
    assert "training is in space as a whole" in problems(sweep(whole, seeds=3))[0].message
    assert len(plan_trials(spec(whole))) == 2


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"seeds": [1, 2, 1]}, "seeds lists a seed twice"),
        ({"seeds": 501}, "2 configurations x 501 seeds are more than 1000 trials"),
        ({"seeds": {"first": 3, "most": 10}}, "{first, most} is for scheduler race"),
        ({"scheduler": {"name": "race"}}, "scheduler race needs the seeds it may use"),
        ({"scheduler": {"name": "race"}, "seeds": {"first": 4, "most": 4}}, "most (4) must be larger than first (4)"),
        ({"scheduler": {"name": "race"}, "seeds": {"first": 4, "most": 51}}, "most (51) must be at most 50"),
        (
            {"scheduler": {"name": "race"}, "seeds": {"first": 3, "most": 9}, "algorithm": "tpe", "trials": 2},
            "known at its start",
        ),
        (
            {"scheduler": {"name": "pbt"}, "seeds": 2, "algorithm": "random", "trials": 2, "space": RANGES},
            "so replicates would differ",
        ),
    ],
)
def test_seeds_that_do_not_fit_are_told_why(search: dict[str, Any], said: str, problems: Problems) -> None:
    assert said in problems(sweep(**search))[0].message


def test_seeds_beyond_the_largest_are_refused_at_submission(problems: Problems) -> None:
    found = problems(sweep(seed=2**31 - 2, seeds=3))
    assert "training.seed = 2147483648" in found[0].message
