"""Every formula of an answer: against scipy to 1e-9, by its laws, and by what it promises over many sweeps."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.answers.estimates import (
    ALPHA,
    adjusted_means,
    binomial_error,
    compare,
    holm,
    image_count,
    mean_interval,
    seeds_to_settle,
)
from adadim_core.answers.ranking import kendall
from adadim_core.answers.student import LEAST_PROBABILITY, quantile, tail

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(t=st.floats(-1e6, 1e6), df=st.integers(1, 400))
def test_tail_is_that_of_scipy(t: float, df: int) -> None:
    assert tail(np.array([t]), np.array([df]))[0] == pytest.approx(2 * scipy.stats.t.sf(abs(t), df), abs=1e-9)


@given(probability=st.floats(1e-6, 0.99), df=st.integers(1, 400))
def test_quantile_is_that_of_scipy(probability: float, df: int) -> None:
    assert quantile(probability, df) == pytest.approx(scipy.stats.t.isf(probability / 2, df), rel=1e-9)


@pytest.mark.parametrize("df", range(1, 60))
def test_the_least_probability_still_has_a_quantile_and_smaller_ones_are_refused(df: int) -> None:
    expected = scipy.stats.t.isf(LEAST_PROBABILITY / 2, df)
    assert quantile(LEAST_PROBABILITY, df) == pytest.approx(expected, rel=1e-3)
    for probability in (LEAST_PROBABILITY / 2, 1e-17, 1e-300, 0.0):
        with pytest.raises(ValueError, match="a probability in"):
            quantile(probability, df)


@given(st.lists(NUMBERS, min_size=2, max_size=30).filter(lambda v: np.std(v) > 1e-6))
def test_mean_interval_is_that_of_scipy(values: list[float]) -> None:
    found = mean_interval(np.array(values))
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


@given(st.integers(2, 6), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_paired_comparison_is_that_of_scipy(k: int, seeds: int, source: int) -> None:
    values = np.random.default_rng(source).normal(size=(k, seeds))
    pairs = compare(values)
    for first in range(k):
        for second in range(first + 1, k):
            test = scipy.stats.ttest_rel(values[first], values[second])
            interval = test.confidence_interval(0.95)
            pair = pairs.index(first, second)
            half = pairs.half_width(pair, ALPHA)
            assert pairs.p[pair] == pytest.approx(test.pvalue, abs=1e-9)
            assert pairs.mean[pair] - half == pytest.approx(interval.low, rel=1e-9, abs=1e-9)
            assert pairs.mean[pair] + half == pytest.approx(interval.high, rel=1e-9, abs=1e-9)


def test_only_seeds_that_both_have_are_compared() -> None:
    nan = math.nan
    values = np.array([[1.0, 2.0, 4.0, nan], [0.5, 1.0, nan, 7.0], [nan, nan, 1.0, 2.0]])
    pairs = compare(values)
    assert pairs.n.tolist() == [2, 1, 1]
    assert pairs.p[0] == pytest.approx(scipy.stats.ttest_rel([1.0, 2.0], [0.5, 1.0]).pvalue)
    assert np.isnan(pairs.p[1:]).all()
    assert pairs.tested == 1


def test_what_does_not_spread_proves_nothing_unless_it_is_the_same() -> None:
    pairs = compare(np.array([[0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.5, 0.6, 0.7]]))
    assert np.isnan(pairs.p[pairs.index(0, 1)])
    assert pairs.p[pairs.index(0, 2)] == 1.0


def test_two_seeds_that_differ_by_one_image_each_prove_nothing() -> None:
    step = 1 / 359
    pairs = compare(np.array([[350 * step, 352 * step], [351 * step, 353 * step]]), step=step)
    assert pairs.p[0] > 0.1


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=30))
def test_holm_is_its_definition(p: list[float]) -> None:
    tested = sorted(x for x in p if not math.isnan(x))
    expected = {}
    for i, x in enumerate(tested):
        expected[x] = min(1.0, max((len(tested) - j) * tested[j] for j in range(i + 1)))
    found = holm(np.array(p, float))
    for x, adjusted in zip(p, found.tolist(), strict=True):
        if math.isnan(x):
            assert math.isnan(adjusted)
        else:  # of equal p values the last one's factor is the smallest: the maximum is the first's
            assert adjusted == pytest.approx(min(1.0, expected[x]), abs=1e-12) or adjusted >= x


@given(st.integers(2, 6), st.integers(2, 8), st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_intervals_exclude_zero_just_where_holm_says_different(k: int, n: int, effect: float, source: int) -> None:
    rng = np.random.default_rng(source)
    values = rng.normal(size=(k, n)) + effect * rng.normal(size=(k, 1)) * 3
    pairs = compare(values)
    for pair in range(len(pairs.p)):
        excludes = abs(pairs.mean[pair]) > pairs.half_width(pair, pairs.level)
        assert excludes == bool(pairs.different[pair])


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_adjusted_means_are_means_where_nothing_is_missing_and_exact_where_effects_add_up(
    k: int, n: int, source: int
) -> None:
    rng = np.random.default_rng(source)
    values = rng.normal(size=(k, 1)) + rng.normal(size=(1, n))
    whole = values.mean(axis=1)
    assert adjusted_means(values) == pytest.approx(whole)
    holes = values.copy()
    holes[rng.random(size=holes.shape) < 0.4] = np.nan
    holes[0, :] = values[0, :]  # which links all the others
    holes[:, 0] = values[:, 0]
    assert adjusted_means(holes) == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("n", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 10))])
def test_intervals_cover_the_truth_in_95_of_100_sweeps(n: int) -> None:
    """10,000 sweeps of two configurations that share seed effects: the interval of a mean and of the difference."""
    rng = np.random.default_rng(n)
    sweeps, mean, difference = 10_000, 0.8, 0.01
    seeds = rng.normal(scale=0.02, size=(sweeps, 1, n))
    noise = rng.normal(scale=[[0.01], [0.03]], size=(sweeps, 2, n))
    values = mean + np.array([[0.0], [difference]]) + seeds + noise
    of_mean = of_difference = 0
    for sweep in values:
        interval = mean_interval(sweep[0])
        assert interval.low is not None
        assert interval.high is not None
        of_mean += interval.low <= mean <= interval.high
        pairs = compare(sweep)
        of_difference += abs(pairs.mean[0] + difference) <= pairs.half_width(0, ALPHA)
    assert 0.93 <= of_mean / sweeps <= 0.97
    assert 0.93 <= of_difference / sweeps <= 0.97


def test_of_equals_the_best_is_rarely_called_different_however_many_there_are() -> None:
    """The leader is chosen for its luck: all pairs are the family, so that it is not held for merit."""
    rng = np.random.default_rng(0)
    for k in (2, 4, 8):
        sweeps = rng.normal(size=(2_000, k, 5))
        wrong = sum(bool(compare(sweep).different.any()) for sweep in sweeps)
        assert wrong / len(sweeps) <= 0.05 + 0.012  # 2.5 standard errors


@pytest.mark.parametrize(("difference", "level"), [(0.5, 0.05), (1.0, 0.05 / 6), (2.0, 0.05)])
def test_the_seeds_named_settle_four_of_five_sweeps(difference: float, level: float) -> None:
    n = seeds_to_settle(difference, 1.0, level)
    assert n is not None
    bound = scipy.stats.t.isf(level / 2, n - 1)
    power = scipy.stats.nct.sf(bound, n - 1, difference * math.sqrt(n))
    assert 0.72 <= power <= 0.95
    assert seeds_to_settle(0.0, 1.0, level) is None
    assert seeds_to_settle(-difference, 1.0, level) == n


@given(st.integers(2, 60_000), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_images_a_share_is_of_are_a_divisor_of_the_test_set(images: int, shares: list[float]) -> None:
    values = np.array([round(share * images) / images for share in shares])
    found = image_count(values)
    if found is None:
        assert len(set(values.tolist())) < 4
    else:
        assert images % found == 0


def test_images_are_not_read_into_numbers_that_are_no_shares() -> None:
    assert image_count(np.random.default_rng(0).random(20)) is None
    assert image_count(np.array([350, 351, 354, 357, 350]) / 359) == 359
    assert image_count(np.array([0.5, 0.5, 1.0, 0.0])) is None


def test_binomial_error() -> None:
    assert binomial_error(0.9, 400) == pytest.approx(0.015)
    assert binomial_error(1.0, 10) == 0.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_tau_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    found = kendall(x, y)
    expected = scipy.stats.kendalltau(x, y).statistic
    if found.tau is None:
        assert math.isnan(expected)
    else:
        assert found.tau == pytest.approx(expected, abs=1e-9)
        if found.low is not None and found.high is not None:
            assert -1 <= found.low <= found.tau <= found.high <= 1


def test_taus_interval_needs_five_and_does_not_take_agreement_of_five_for_proof() -> None:
    up = np.arange(5.0)
    assert kendall(up[:4], up[:4]).low is None
    perfect = kendall(up, up)
    assert (perfect.tau, perfect.high) == (1.0, 1.0)
    assert perfect.low is not None
    assert perfect.low < 0.5
    half = 1.959963984540054 * math.sqrt(0.437 / 6)
    ten = kendall(np.arange(10.0), np.array([1.0, 0, 3, 2, 5, 4, 7, 6, 9, 8]))
    assert ten.tau == pytest.approx(35 / 45)
    assert ten.low == pytest.approx(math.tanh(math.atanh(35 / 45) - half))
