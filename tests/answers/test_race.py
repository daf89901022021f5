"""The rule of the race: whom it drops and when it ends, from values alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadim_core.answers.estimates import ALPHA, compare
from adadim_core.answers.race import Rule, Standing, level, standing
from adadim_core.answers.student import Floats

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


def test_the_looks_together_spend_five_percent_however_many_there_are() -> None:
    levels = [level(look) for look in range(1, 60)]
    assert sum(levels) == pytest.approx(ALPHA)
    assert levels == sorted(levels, reverse=True)


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
