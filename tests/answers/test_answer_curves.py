"""Curves by configuration: mean and band over its trials."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.answers.curves import Course, band, positions
from adadim_core.answers.estimates import mean_interval

FLOATS = st.floats(-1e6, 1e6)


def course(at: list[float], values: list[float]) -> Course:
    return Course(np.array(at, float), np.array(values, float))


@given(st.lists(st.lists(FLOATS, min_size=4, max_size=4), min_size=1, max_size=6))
def test_each_position_has_the_mean_and_interval_of_the_values_there(values: list[list[float]]) -> None:
    at = [0.0, 1.0, 2.0, 4.0]
    found = band([course(at, of_one) for of_one in values], np.array(at))
    assert found is not None
    for k in range(4):
        expected = mean_interval(np.array([of_one[k] for of_one in values]))
        assert found.mean[k] == pytest.approx(expected.mean, abs=1e-6)
        if expected.low is None:
            assert math.isnan(found.low[k])
        else:
            assert [found.low[k], found.high[k]] == pytest.approx([expected.low, expected.high], abs=1e-5)


def test_a_trial_counts_only_where_it_was_measured() -> None:
    found = band([course([0, 1, 2, 3], [0, 2, 4, 6]), course([1, 2], [4, 6])], np.arange(5.0))
    assert found is not None
    assert found.first == 0
    assert found.n.tolist() == [1, 2, 2, 1]
    assert found.mean.tolist() == [0, 3, 5, 6]
    assert np.isnan(found.low).tolist() == [True, False, False, True]


def test_what_is_no_number_in_one_trial_has_no_mean() -> None:
    found = band([course([0, 1, 2], [1, math.nan, 1]), course([0, 1, 2], [3, 3, math.inf])], np.arange(3.0))
    assert found is not None
    assert found.mean[0] == 2
    assert np.isnan(found.mean[1:]).all()
    assert np.isnan(found.high[1:]).all()


def test_a_curve_begins_where_its_first_trial_does() -> None:
    found = band([course([5], [7])], np.array([1.0, 5.0, 6.0]))
    assert found is not None
    assert (found.first, found.mean.tolist()) == (1, [7])
    assert band([course([5], [7])], np.array([1.0, 6.0])) is None


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True), min_size=1, max_size=4),
    st.integers(2, 12),
)
def test_positions_are_where_something_was_measured(at: list[list[int]], most: int) -> None:
    found = positions([course(sorted(of_one), of_one) for of_one in ([*map(float, x)] for x in at)], most)
    measured = sorted({x for of_one in at for x in of_one})
    assert set(found) <= set(measured)
    assert len(found) == min(most, len(measured)) or len(found) >= most // 2
    assert len(found) <= most
    assert (found[0], found[-1]) == (measured[0], measured[-1])


def test_no_course_has_no_positions() -> None:
    assert len(positions([], 10)) == 0
