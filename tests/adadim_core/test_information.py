"""The estimators against SVDs and eigenvalues in NumPy, known values, bounds, invariances and bad input."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadim_core.information import (
    alignment,
    batch_products,
    effective_rank,
    information_quantities,
    matrix_entropy,
    mutual_information,
    uniformity,
)

SHAPES = [(12, 5), (6, 20), (8, 8)]
ORDERS = [0.5, 1.0, 1.3, 2.0, 3.0]
BOUNDED = settings(max_examples=25)


@pytest.fixture
def draw(draw: Any, device: torch.device) -> Any:
    """Seeded tensors on every device there is."""
    return lambda *shape, **kwargs: draw(*shape, **kwargs).to(device)


def rank_by_svd(x, center):
    s = np.linalg.svd(x - x.mean(0) if center else x, compute_uv=False)
    p = s / s.sum()
    p = p[p > 1e-12]
    return math.exp(-(p * np.log(p)).sum())


def kernel(x, center):
    x = x - x.mean(0) if center else x
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def entropy_by_eigenvalues(k, order):
    p = np.linalg.eigvalsh(k / len(k))
    p = p[p > 1e-12]
    return -(p * np.log(p)).sum() if order == 1 else math.log((p**order).sum()) / (1 - order)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_effective_rank_agrees_with_an_svd(draw, shape, center):
    x = draw(*shape)
    x = x * torch.logspace(0, -3, shape[1], device=x.device) + 0.3
    assert effective_rank(x, center=center).item() == pytest.approx(rank_by_svd(x.cpu().numpy(), center), rel=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_entropy_agrees_with_eigenvalues(draw, shape, center, order):
    x = draw(*shape) + 0.3
    expected = entropy_by_eigenvalues(kernel(x.cpu().numpy(), center), order)
    assert matrix_entropy(x, order=order, center=center).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("center", [True, False])
def test_mutual_information_agrees_with_eigenvalues(draw, order, center):
    r, z = draw(9, 4) + 0.2, draw(9, 30)
    z[:, :4] += 2 * r
    k_r, k_z = kernel(r.cpu().numpy(), center), kernel(z.cpu().numpy(), center)
    expected = (
        entropy_by_eigenvalues(k_r, order)
        + entropy_by_eigenvalues(k_z, order)
        - entropy_by_eigenvalues(k_r * k_z, order)
    )
    assert mutual_information(r, z, order=order, center=center).item() == pytest.approx(expected, rel=1e-6)


def test_order_one_is_the_limit(draw):
    x = draw(10, 6)
    at_one = matrix_entropy(x, order=1.0)
    for order in (1 - 1e-4, 1 - 1e-7, 1 + 1e-7, 1 + 1e-4):
        assert matrix_entropy(x, order=order).item() == pytest.approx(at_one.item(), abs=2e-4)


def test_uniformity_and_alignment_agree_with_loops_over_pairs(draw):
    x, y = draw(7, 3), draw(7, 3)
    u = x.cpu().numpy() / np.linalg.norm(x.cpu().numpy(), axis=1, keepdims=True)
    v = y.cpu().numpy() / np.linalg.norm(y.cpu().numpy(), axis=1, keepdims=True)
    potentials = [math.exp(-2 * ((u[i] - u[j]) ** 2).sum()) for i in range(7) for j in range(i)]
    assert uniformity(x).item() == pytest.approx(math.log(np.mean(potentials)), rel=1e-6)
    assert alignment(x, y).item() == pytest.approx(((u - v) ** 2).sum(1).mean(), rel=1e-6)


def test_orthogonal_rows_have_the_largest_values():
    x = torch.eye(6, 9, dtype=torch.float64)
    assert effective_rank(x, center=False).item() == pytest.approx(6)
    for order in ORDERS:
        assert matrix_entropy(x, order=order).item() == pytest.approx(math.log(6))
        assert mutual_information(x, x, order=order).item() == pytest.approx(math.log(6))


def test_effective_rank_of_isotropic_noise_reaches_the_batch_not_the_dimensions(draw):
    # The figure the `min` normaliser of alpha rests on.
    assert effective_rank(draw(256, 2048, dtype=torch.float32)).item() == pytest.approx(250.8, abs=0.3)


@pytest.mark.parametrize(
    "quantity",
    [
        partial(effective_rank),
        partial(effective_rank, center=False),
        *(partial(matrix_entropy, order=order, center=center) for order in (0.7, 1.0, 2.0) for center in (True, False)),
        uniformity,
    ],
)
@pytest.mark.parametrize("shape", [(5, 3), (4, 7)])
def test_gradients_agree_with_finite_differences(draw, quantity, shape):
    assert torch.autograd.gradcheck(quantity, (draw(*shape).requires_grad_(),))


@pytest.mark.parametrize("order", [0.7, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("center", [True, False])
def test_mutual_information_is_differentiable_in_both_arguments(draw, order, center):
    r, z = draw(5, 3).requires_grad_(), draw(5, 8).requires_grad_()
    assert torch.autograd.gradcheck(partial(mutual_information, order=order, center=center), (r, z))


matrices = st.tuples(st.integers(2, 12), st.integers(1, 12), st.integers(0, 2**31))


def matrix(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@BOUNDED
@given(matrices, st.floats(1e-3, 1e3))
def test_rotation_scale_and_order_change_nothing(shape_and_seed, scale):
    n, d, seed = shape_and_seed
    x, r = matrix(n, d, seed), matrix(n, 3, seed + 1)
    rotation, _ = torch.linalg.qr(matrix(d, d, seed + 2))
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for same in (x @ rotation, scale * x, x[rows]):
        torch.testing.assert_close(effective_rank(same), effective_rank(x), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(matrix_entropy(same), matrix_entropy(x))
        torch.testing.assert_close(uniformity(same), uniformity(x))
    torch.testing.assert_close(mutual_information(r, scale * x @ rotation), mutual_information(r, x))
    torch.testing.assert_close(mutual_information(x, r), mutual_information(r, x))


@BOUNDED
@given(matrices)
def test_a_batch_twice_over_is_worth_the_same(shape_and_seed):
    x = matrix(*shape_and_seed)
    r = matrix(x.shape[0], 4, 7)
    twice, r_twice = torch.cat([x, x]), torch.cat([r, r])
    torch.testing.assert_close(effective_rank(twice), effective_rank(x), rtol=1e-6, atol=1e-6)
    for order in (0.5, 1.0, 2.0):
        torch.testing.assert_close(matrix_entropy(twice, order=order), matrix_entropy(x, order=order))
        torch.testing.assert_close(
            mutual_information(r_twice, twice, order=order), mutual_information(r, x, order=order)
        )


@BOUNDED
@given(matrices, st.sampled_from(ORDERS))
def test_bounds(shape_and_seed, order):
    x = matrix(*shape_and_seed)
    n, d = x.shape
    assert 1 - 1e-9 <= effective_rank(x).item() <= max(min(n - 1, d), 1) + 1e-9
    for center in (True, False):
        entropy = matrix_entropy(x, order=order, center=center).item()
        assert -1e-9 <= entropy <= math.log(min(n, d)) + 1e-9
        assert mutual_information(x, x, order=order, center=center).item() <= math.log(n) + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4])
@pytest.mark.parametrize("shape", [(256, 64), (33, 200), (1, 5)])
def test_a_constant_batch_has_rank_one_and_no_information(shape, value, dtype):
    x = torch.full(shape, value, dtype=dtype) * torch.linspace(0.3, 1.7, shape[1], dtype=dtype)
    z = torch.randn(shape[0], 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    assert effective_rank(x).item() == 1
    assert effective_rank(x, center=False).item() == pytest.approx(1, abs=1e-6)
    for order in (0.5, 1.0, 2.0):
        for center in (True, False):
            assert matrix_entropy(x, order=order, center=center).item() == pytest.approx(0, abs=1e-5)
            assert mutual_information(x, z, order=order, center=center).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_a_collapsed_batch_is_constant_up_to_rounding(draw, order):
    row = draw(1, 64, dtype=torch.float32)
    collapsed = row + row.abs().amax() * torch.finfo(torch.float32).eps * draw(128, 64, dtype=torch.float32)
    assert effective_rank(collapsed).item() == 1
    assert matrix_entropy(collapsed, order=order, center=True).item() == pytest.approx(0, abs=1e-5)
    barely = row + 1e-3 * draw(128, 64, dtype=torch.float32)
    assert effective_rank(barely).item() > 50


def test_a_constant_batch_has_finite_gradients():
    for quantity in (effective_rank, partial(matrix_entropy, center=True), partial(matrix_entropy, order=0.5)):
        x = torch.full((6, 4), 0.1, requires_grad=True)
        quantity(x).backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
def test_not_finite_in_gives_nan_out(draw, shape, order, bad):
    x, good = draw(*shape), draw(*shape)
    x[1, 2] = bad
    for center in (True, False):
        assert effective_rank(x, center=center).isnan()
        assert matrix_entropy(x, order=order, center=center).isnan()
        assert mutual_information(x, good, order=order, center=center).isnan()
        assert mutual_information(good, x, order=order, center=center).isnan()
    assert uniformity(x).isnan()
    assert alignment(x, good).isnan()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_uniformity_and_alignment_depend_on_directions_only(draw, scale):
    x, y = draw(10, 6, dtype=torch.float32), draw(10, 6, dtype=torch.float32)
    torch.testing.assert_close(uniformity(scale * x), uniformity(x))
    torch.testing.assert_close(alignment(scale * x, y), alignment(x, y))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_small_and_very_large_values_are_measured_alike(draw, scale):
    x = draw(10, 6, dtype=torch.float32)
    for quantity in (effective_rank, matrix_entropy, partial(matrix_entropy, center=True)):
        assert quantity(x * scale).item() == pytest.approx(quantity(x).item(), rel=1e-4)


def test_large_orders_do_not_underflow():
    x = torch.eye(64, dtype=torch.float64)
    assert matrix_entropy(x, order=1000.0).item() == pytest.approx(math.log(64))
    assert mutual_information(x, x, order=1000.0).item() == pytest.approx(math.log(64))


def test_autocast_does_not_coarsen_an_estimate(draw, device):
    x, z = draw(32, 64, dtype=torch.float32), draw(32, 64, dtype=torch.float32)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        inside = [effective_rank(x), matrix_entropy(x), mutual_information(x, z), uniformity(x)]
    assert inside == [effective_rank(x), matrix_entropy(x), mutual_information(x, z), uniformity(x)]


def test_bad_arguments_are_refused(draw):
    with pytest.raises(ValueError, match="order"):
        matrix_entropy(draw(3, 3), order=0)
    with pytest.raises(ValueError, match="same samples"):
        mutual_information(draw(3, 3), draw(4, 3))
    with pytest.raises(ValueError, match="matrix"):
        effective_rank(draw(3))
    with pytest.raises(ValueError, match="two rows"):
        uniformity(draw(1, 3))


def singly(r, z, order):
    return {
        "h_r": matrix_entropy(r, center=True),
        "i_rz": mutual_information(r, z, order=order, center=True),
        "erank_r": effective_rank(r),
        "erank_z": effective_rank(z),
        "loss_mi": mutual_information(r, z, order=order),
        "uniformity": uniformity(z),
    }


def batches(draw):
    r, z = draw(12, 5).relu() + 0.5, draw(12, 30)
    zero_row, infinite, huge_row = z.clone(), z.clone(), z.clone()
    zero_row[:3] = 0
    infinite[4, 4] = math.inf
    huge_row[2] *= 1e9
    short_rows = torch.where(torch.arange(12, device=z.device)[:, None] % 3 == 0, z, 1.0)
    return {
        "ordinary": (r, z),
        "more samples than dimensions": (draw(40, 5), draw(40, 7)),
        "float32 far from zero": ((r + 1000).float(), (1e6 * z + 1e8).float()),
        "tiny and huge": ((1e-15 * r).float(), (1e15 * z).float()),
        "zero rows": (r, zero_row),
        "constant": (torch.ones(12, 5, device=z.device), draw(1, 30).float().expand(12, 30)),
        "zero": (torch.zeros(12, 5, device=z.device), z),
        "not finite": (r, infinite),
        "short rows": (r, torch.where(short_rows == 1, z, 1e-7 * z)),
        "shorter rows": (r, torch.where(short_rows == 1, z, 1e-9 * z)),
        "shorter rows in float32": (r.float(), torch.where(short_rows == 1, z, 1e-9 * z).float()),
        "one huge row": (r, huge_row),
        "one huge row in float32": (r.float(), huge_row.float()),
    }


@pytest.mark.parametrize("order", ORDERS)
def test_quantities_at_once_are_those_taken_singly(draw, order):
    for name, (r, z) in batches(draw).items():
        together = information_quantities(batch_products(r, z, order=order))
        expected = singly(r, z, order)
        assert together.keys() == expected.keys()
        tolerance = 1e-9 if r.dtype == torch.float64 else 2e-3
        for key, value in expected.items():
            assert together[key].item() == pytest.approx(value.item(), rel=tolerance, abs=tolerance, nan_ok=True), (
                f"{key} of a batch that is {name}"
            )


@BOUNDED
@given(st.integers(0, 2**31), st.floats(-3, 8), st.integers(1, 4))
def test_constant_columns_change_nothing(seed, magnitude, columns):
    x = matrix(40, 24, seed).float()
    z = matrix(40, 8, seed + 1).float()
    wider = torch.cat([x, torch.full((40, columns), 10**magnitude)], dim=1)
    torch.testing.assert_close(effective_rank(wider), effective_rank(x), rtol=1e-4, atol=0)
    torch.testing.assert_close(matrix_entropy(wider, center=True), matrix_entropy(x, center=True), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        mutual_information(wider, z, center=True), mutual_information(x, z, center=True), rtol=1e-3, atol=1e-3
    )
    together = information_quantities(batch_products(wider, z))
    for name, value in information_quantities(batch_products(x, z)).items():
        if name != "loss_mi":  # uncentred: there a constant counts
            torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(256, 512), (256, 64)])
def test_rounding_of_the_forward_pass_is_no_rank(draw, dtype, shape):
    def measured(x):
        x = x.to(dtype).float()
        together = information_quantities(batch_products(x, x, computed_in=dtype))
        alone = effective_rank(x, computed_in=dtype)
        assert alone.item() == pytest.approx(together["erank_r"].item()) == pytest.approx(together["erank_z"].item())
        return alone.item(), together["h_r"].item()

    n, d = shape
    row, five = 1 + draw(1, d).abs(), draw(n, 5) @ draw(5, d) / math.sqrt(5)
    eps = torch.finfo(dtype).eps
    # Collapsed to a point: what is left is rounding, in which every dimension is as good as another.
    assert measured(row + 0.1 * eps * draw(n, d)) == (1, pytest.approx(0, abs=1e-9))
    # Collapsed to five dimensions.
    low = row + 5 * eps * five
    assert effective_rank(low.to(dtype).float()) > 8
    assert measured(low)[0] == pytest.approx(effective_rank(low).item(), rel=0.02)
    # Sound: nothing is lost.
    assert measured(draw(n, d))[0] == pytest.approx(effective_rank(draw(n, d)).item(), rel=0.02)
