"""Measures without labels against NumPy by their definitions, where closed forms are known, and in bad cases."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adadim_core import label_free
from adadim_core.label_free import (
    allows_lidar,
    alpha_req,
    balance,
    evaluation_sample,
    lidar,
    measures_of_images,
    rankme,
    scatter,
)


def exp_entropy(values: np.ndarray, epsilon: float) -> float:
    p = values / values.sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)])
def test_rankme_is_its_definition(draw: Callable[..., Tensor], shape: tuple[int, int]) -> None:
    z = draw(*shape) + 0.5  # not centred
    singular = np.linalg.svd(z.double().numpy(), compute_uv=False)
    assert rankme(z) == pytest.approx(exp_entropy(singular, 1e-7), rel=1e-6)


def test_rankme_counts_equal_directions() -> None:
    assert rankme(torch.eye(6)) == pytest.approx(6, rel=1e-4)
    assert rankme(torch.ones(50, 8)) == pytest.approx(1, abs=1e-4)


def of_power_law(a: float, n: int = 400, d: int = 120) -> Tensor:
    """R whose covariance has the eigenvalues k^-a exactly."""
    source = torch.Generator().manual_seed(0)
    columns = torch.randn(n, d, generator=source, dtype=torch.float64)
    left, _ = torch.linalg.qr(columns - columns.mean(dim=0))
    right, _ = torch.linalg.qr(torch.randn(d, d, generator=source, dtype=torch.float64))
    k = torch.arange(1, d + 1, dtype=torch.float64)
    return left * k.pow(-a / 2) @ right.T + 3.0


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0, 2.2])
def test_alpha_req_finds_the_exponent(a: float) -> None:
    assert alpha_req(of_power_law(a)) == pytest.approx(a, abs=1e-6)


def test_alpha_req_takes_no_rounding_for_a_law() -> None:
    collapsed = of_power_law(1.0)[:, :1] * torch.ones(1, 64, dtype=torch.float64)
    assert math.isnan(alpha_req(collapsed))


def test_lidar_is_its_definition(draw: Callable[..., Tensor]) -> None:
    n, d = 60, 8
    images, noise = draw(n, d) * torch.logspace(0, -1, d), draw(2, n, d) * 0.1
    z1, z2 = images + noise[0], images + noise[1]
    between, within = np.zeros((d, d)), np.zeros((d, d))
    views = torch.stack([z1, z2]).double().numpy()
    means = views.mean(axis=0)
    for i in range(n):
        between += np.outer(means[i] - means.mean(axis=0), means[i] - means.mean(axis=0)) / n
        for view in range(2):
            within += np.outer(views[view, i] - means[i], views[view, i] - means[i]) / (2 * n)
    values, vectors = np.linalg.eigh(within + 1e-4 * np.eye(d))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    expected = exp_entropy(np.linalg.eigvalsh(root @ between @ root), 1e-7)
    assert lidar(*scatter(z1, z2)) == pytest.approx(expected, rel=1e-9)


def test_lidar_counts_the_directions_in_which_images_differ_more_than_views(draw: Callable[..., Tensor]) -> None:
    """All dimensions vary as much, but in six of ten the two views have nothing to do with each other."""
    n = 20_000
    images, noise = draw(n, 10), draw(2, n, 10) * 0.05
    images[:, 4:] = 0
    noise[:, :, 4:] *= 20
    z1, z2 = images + noise[0], images + noise[1]
    assert rankme(z1) > 9
    assert lidar(*scatter(z1, z2)) == pytest.approx(4, abs=0.3)
    assert not allows_lidar(8, 8)
    assert allows_lidar(9, 8)


@given(st.floats(0, 8), st.floats(0, 1))
def test_balance_is_highest_where_half_is_shared(h: float, share: float) -> None:
    found = balance(h, share * h)
    assert 0 <= found <= h + 1e-12
    # Squared: near 0 and h the root magnifies the rounding of h - share * h.
    assert found**2 == pytest.approx(4 * h**2 * share * (1 - share), rel=1e-9, abs=1e-12)
    assert balance(h, h / 2) == pytest.approx(h)
    assert balance(h, 0) == balance(h, h) == balance(h, h + 1) == 0  # an estimate of I may exceed that of H


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_nan(draw: Callable[..., Tensor], bad: float) -> None:
    x = draw(40, 30)
    x[3, 4] = bad
    assert math.isnan(rankme(x))
    assert math.isnan(alpha_req(x))
    assert math.isnan(lidar(*scatter(x, x)))
    assert math.isnan(balance(math.nan, 1.0))


def test_few_dimensions_have_no_power_law(draw: Callable[..., Tensor]) -> None:
    assert measures_of_images(draw(40, 19), draw(40, 4)).keys() == {"rankme"}
    measured = measures_of_images(draw(40, 20), draw(40, 4))
    assert measured["alpha_req_distance"] == abs(measured["alpha_req"] - 1)


def test_a_sample_is_spread_over_sorted_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_free, "SAMPLES", 4)
    assert evaluation_sample(torch.arange(100, 110)).tolist() == [100, 102, 105, 107]
    assert evaluation_sample(torch.arange(3)).tolist() == [0, 1, 2]
