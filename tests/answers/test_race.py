"""The rule of the race: whom it drops and when it ends, from values alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_rows import question, rows, weighting

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.estimates import ALPHA, compare
from adadim_core.answers.race import SPENT, Rule, Standing, level, standing
from adadim_core.answers.student import LEAST_PROBABILITY, Floats

RULE = Rule(first=3, most=8, mode="max")


def seeded(seed: int, means: list[float], sd: float = 1.0, seeds: int = 8) -> Floats:
    """Values of configurations with these means, the noise of a seed shared by all."""
    rng = np.random.default_rng(seed)
    noise = sd * rng.standard_normal((len(means), seeds)) + 3 * rng.standard_normal(seeds)
    return np.array(means)[:, None] + noise


def race(values: Floats, rule: Rule = RULE) -> Standing:
    return standing(values, np.ones(values.shape, bool), rule)


def trials(found: Standing, count: int) -> int:
    return sum(drop.seeds for drop in found.dropped.values()) + (count - len(found.dropped)) * found.seeds


def race_question(configurations: int, seeds: int = 10) -> Question:
    """Of a race among the weightings of the made-up rows."""
    space = {"objective.weighting": {"choice": [weighting(k) for k in range(configurations)]}}
    return question(space=space, scheduler={"name": "race"}, seeds={"first": 3, "most": seeds})


def test_the_looks_together_spend_half_of_the_error_however_many_there_are() -> None:
    levels = [level(look) for look in range(1, 60)]
    assert sum(levels) == pytest.approx(SPENT) == pytest.approx(0.8 * ALPHA)
    assert levels == sorted(levels, reverse=True)
    assert min(levels) == LEAST_PROBABILITY


def test_a_race_of_most_seeds_still_compares_with_its_indifference_at_the_last_look() -> None:
    values = seeded(5, [0.0, 0.0], seeds=50)
    found = race(values, Rule(2, 50, "max", indifference=1e-3))
    assert (found.seeds, found.dropped, found.over) == (50, {}, "most seeds")


def test_the_answer_to_a_race_has_the_error_that_its_looks_left() -> None:
    """The same values, of a p between the two levels, from a grid and from a race."""
    trials = rows([[0.80, 0.81, 0.80, 0.82], [0.78, 0.80, 0.79, 0.79]])
    of_grid, of_race = answer(question(), trials), answer(race_question(2), trials)
    other = of_race.configurations[1].differences["knn_top1"]
    assert other.p_adjusted is not None
    assert ALPHA / 2 < other.p_adjusted < ALPHA
    assert (of_grid.method.level, of_grid.verdict) == (ALPHA, "best")
    assert (of_race.method.level, of_race.verdict) == (ALPHA - SPENT, "none")
    assert other.high_adjusted is not None
    assert other.high_adjusted > 0
    assert other.high is not None
    assert other.high < 0  # the 95 % interval of this difference alone


def test_a_race_and_its_answer_together_keep_the_error() -> None:
    """Two equal configurations: how often one is dropped or called different."""
    sweeps, wrong, asked = 1000, 0, race_question(2)
    for seed in range(sweeps):
        values = 0.8 + 0.01 * seeded(seed, [0.0, 0.0], seeds=10)
        found = race(values, Rule(3, 10, "max"))
        trained = [of_one[: found.dropped[k].seeds if k in found.dropped else found.seeds].tolist()
                   for k, of_one in enumerate(values)]  # fmt: skip
        wrong += bool(found.dropped) or answer(asked, rows(trained)).verdict != "none"
    assert wrong <= ALPHA * sweeps


def test_what_is_worse_beyond_doubt_is_dropped_and_the_best_is_left() -> None:
    found = race(seeded(0, [0, -40, -40, -3]))
    assert set(found.dropped) == {1, 2, 3}
    assert found.over == "one left"
    assert found.dropped[1].leader == 0
    assert found.dropped[1].difference == pytest.approx(-40, abs=3)
    assert found.dropped[1].seeds < found.dropped[3].seeds


def test_what_the_race_drops_the_answer_calls_different() -> None:
    values = seeded(4, [0, -12, -5, -2, 0.5])
    for drop in (found := race(values)).dropped.values():
        assert drop.p <= drop.level <= ALPHA
    configuration, drop = next(iter(found.dropped.items()))
    seen = values.copy()
    seen[:, drop.seeds :] = np.nan
    pairs = compare(seen)
    assert drop.leader is not None
    pair = pairs.index(*sorted((configuration, drop.leader)))
    assert pairs.different[pair]
    assert pairs.adjusted[pair] == drop.p


def test_nothing_is_decided_before_all_that_are_left_have_their_seeds() -> None:
    values, ended = seeded(0, [0, -40, -1]), np.ones((3, 8), bool)
    ended[2, 2] = False
    assert standing(values, ended, RULE) == Standing(3, {}, None)
    ended[2, 2], ended[0, 4] = True, False
    found = standing(values, ended, RULE)
    assert set(found.dropped) == {1}
    assert (found.seeds, found.over) == (5, None)
    ended[1, 3:] = False  # it is out: nobody waits for it
    assert standing(values, ended, RULE) == found


def test_a_race_ends_within_the_indifference() -> None:
    values = seeded(1, [0, 0.1, -0.1, -50], sd=0.5)
    assert race(values).over == "most seeds"
    found = race(values, Rule(3, 8, "max", indifference=5.0))
    assert (found.over, set(found.dropped)) == ("indifferent", {3})
    assert found.seeds < 8


def test_a_configuration_without_any_value_is_dropped_and_one_with_some_is_not() -> None:
    values = seeded(2, [0, 0, 0])
    values[1], values[2, 1] = np.nan, np.nan
    found = race(values)
    assert set(found.dropped) == {1}
    assert found.dropped[1].leader is None
    nothing = race(np.full((3, 8), np.nan))
    assert (nothing.dropped, nothing.over) == ({}, "most seeds")


def test_equal_values_are_no_difference() -> None:
    assert race(np.ones((4, 8))).dropped == {}
    found = race(np.ones((4, 8)), Rule(3, 8, "max", indifference=0.1))
    assert (found.seeds, found.over) == (3, "indifferent")


_means = st.lists(st.floats(-30, 30), min_size=2, max_size=6)
_few = settings(max_examples=40, deadline=None)


@_few
@given(st.integers(0, 1000), _means, st.integers(3, 8))
def test_what_was_decided_stands_when_more_has_ended(seed: int, means: list[float], seeds: int) -> None:
    """An attempt that reads half of the results decides as one that went on without a break."""
    values = seeded(seed, means)
    ended = np.zeros(values.shape, bool)
    ended[:, :seeds] = True
    seen = np.where(ended, values, np.nan)
    part, whole = standing(seen, ended, RULE), race(values)
    assert whole.dropped.items() >= part.dropped.items()
    assert part.dropped == {k: drop for k, drop in whole.dropped.items() if drop.seeds <= min(seeds, 7)}
    assert (part.over is None) == (whole.seeds > seeds)


@_few
@given(st.integers(0, 1000), _means, st.floats(0, 20), st.randoms(use_true_random=False))
def test_the_standing_is_of_the_values_only(seed: int, means: list[float], indifference: float, random: object) -> None:
    values = seeded(seed, means)
    up, down = Rule(3, 8, "max", indifference), Rule(3, 8, "min", indifference)
    found, mirrored = race(values, up), race(-values, down)
    assert list(found.dropped) == list(mirrored.dropped)
    assert (found.seeds, found.over) == (mirrored.seeds, mirrored.over)
    order = np.random.default_rng(seed).permutation(len(means))
    shuffled = race(values[order], up)
    assert {int(order[k]) for k in shuffled.dropped} == set(found.dropped)
    assert (shuffled.seeds, shuffled.over) == (found.seeds, found.over)


def test_the_true_best_is_rarely_dropped_and_clearly_worse_ones_early() -> None:
    """benchmarks/race.py in small: 200 sweeps, equal ones, and half of them clearly worse."""
    lost = sum(0 in race(seeded(seed, [0.0] * 6)).dropped for seed in range(200))
    assert lost <= 0.05 * 200
    rule, means = Rule(3, 10, "max", indifference=4.0), [0, -0.3, -0.3, -10, -10, -10]
    spent = [trials(race(seeded(seed, means, seeds=10), rule), 6) for seed in range(100)]
    assert np.mean(spent) <= 0.6 * 60
