"""The estimators where the truth is known: closed forms over N, D, order and centring, and the page that tells them.

Tolerances: an estimate of order 2 is minus the logarithm of a mean over N^2 / 2 pairs of samples, so its spread is of
the order of 1 / N of its parts; a hundredth of a nat is three of the standard deviations that docs/estimators.md lists.
"""

import json
import math
from functools import cache
from statistics import fmean

import numpy as np
import pytest
import torch
from estimators import (
    PAGE,
    RESULTS,
    Row,
    class_information,
    expected_information,
    gaussian,
    gaussian_information,
    nearest_neighbour_information,
    pair_moments,
    tables,
    told_classes,
)
from pages import into_page

from adadim_core import matrix_entropy, mutual_information


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def estimates(n: int, d: int, rho: float, **how: object) -> list[float]:
    return [mutual_information(*gaussian(n, d, rho, generator(seed)), **how).item() for seed in range(5)]


@cache
def moment(d: int, rho: float) -> float:
    return pair_moments(d, rho, generator())


@pytest.mark.parametrize(("d", "rho"), [(8, 0.0), (8, 0.5), (8, 0.9), (8, 1.0), (512, 0.0), (512, 1.0)])
@pytest.mark.parametrize("n", [64, 256])
def test_order_2_comes_to_its_closed_form(n, d, rho):
    expected = expected_information(n, d, moment(d, rho))
    # The logarithm's curvature and the simulated moment add to the spread where there are few samples.
    assert fmean(estimates(n, d, rho)) == pytest.approx(expected, abs=0.03 if n == 64 else 0.015)


def test_independence_has_a_floor_and_a_copy_a_ceiling_that_meet_where_dimensions_outnumber_samples():
    floor, ceiling = (expected_information(256, 128, m) for m in (1 / 128**2, 3 / (128 * 130)))
    assert floor == pytest.approx(3.37, abs=0.01)
    assert ceiling - floor < 0.04  # while the truth goes from 0 to infinity
    floor, ceiling = (expected_information(256, 8, m) for m in (1 / 64, 3 / 80))
    assert floor == pytest.approx(0.17, abs=0.01)
    assert ceiling == pytest.approx(0.92, abs=0.01)


@pytest.mark.parametrize("d", [2, 16, 256])
def test_without_end_of_samples_a_copy_has_at_most_log_3(d):
    assert expected_information(math.inf, d, moment(d, 1.0)) == pytest.approx(math.log(3 * d / (d + 2)))
    assert expected_information(math.inf, d, moment(d, 0.0)) == pytest.approx(0)


@pytest.mark.parametrize("d", [4, 32])
def test_the_estimate_rises_with_the_information(d):
    found = [fmean(estimates(256, d, rho)) for rho in (0.0, 0.5, 0.8, 0.95, 1.0)]
    assert found == sorted(found)


@pytest.mark.parametrize("d", [8, 64])
def test_an_entropy_is_log_d_less_what_the_batch_lacks(d):
    found = fmean(matrix_entropy(gaussian(512, d, 0.0, generator(seed))[0]).item() for seed in range(5))
    assert found == pytest.approx(-math.log(1 / 512 + (1 - 1 / 512) / d), abs=0.01)
    assert found < math.log(d)


def test_the_floor_is_told_by_the_entropies():
    # The rule of docs/estimators.md, with a and b from R and Z of other shapes than the formula was made for.
    n = 256
    scale = torch.logspace(0, -2, 24, dtype=torch.float64)
    for seed in range(3):
        r, z = (gaussian(n, 24, 0.0, generator(10 * seed + part))[0] * scale for part in range(2))
        many = gaussian(8192, 24, 0.0, generator(seed))[0] * scale
        a = math.exp(-matrix_entropy(many).item())
        floor = math.log(1 / n + a * a) - 2 * math.log(1 / n + a)
        assert mutual_information(r, z).item() == pytest.approx(floor, abs=0.02)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_of_classes_it_is_the_information_of_their_counts(order):
    r, z = told_classes(400, 5, 0.3, generator())
    counts = (r.T @ z).numpy() / 400

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum() if order == 1 else -np.log((p**2).sum()))

    plug_in = entropy(counts.sum(1)) + entropy(counts.sum(0)) - entropy(counts)
    assert mutual_information(r, z, order=order).item() == pytest.approx(plug_in, abs=1e-9)  # exact up to rounding
    # The plug-in estimate's bias is at most (5 - 1)^2 / (2 * 400) = 0.02, its spread about as large.
    assert plug_in == pytest.approx(class_information(5, 0.3, order), abs=0.08)


def test_a_common_mean_hides_what_centring_finds():
    def estimate(shift: float, center: bool) -> float:
        found = []
        for seed in range(5):
            r, z = gaussian(256, 16, 0.9, generator(seed))
            found.append(mutual_information(r + shift, z, center=center).item())
        return fmean(found)

    assert estimate(3.0, False) < 0.3 * estimate(0.0, False)
    assert estimate(3.0, True) == pytest.approx(estimate(0.0, True), abs=1e-9)


def test_nearest_neighbours_find_the_information_in_two_dimensions():
    found = fmean(
        nearest_neighbour_information(*(x.numpy() for x in gaussian(1000, 2, 0.8, generator(seed))))
        for seed in range(5)
    )
    assert found == pytest.approx(gaussian_information(2, 0.8), abs=0.1)  # its sd at N = 1000 is 0.04
    independent = nearest_neighbour_information(*(x.numpy() for x in gaussian(1000, 2, 0.0, generator())))
    assert independent == pytest.approx(0, abs=0.1)


def test_the_page_shows_the_stored_results():
    rows = [Row(**fields) for fields in json.loads(RESULTS.read_text())]
    page = PAGE.read_text()
    assert into_page(page, tables(rows)) == page, "run benchmarks/estimators.py --write"
    with pytest.raises(ValueError, match="no place for other"):
        into_page(page, {"other": ""})
