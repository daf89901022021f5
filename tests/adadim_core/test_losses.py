"""Each loss against a second formulation, its gradient against finite differences, and what it must not depend on."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadim_core.losses import (
    barlow_twins_loss,
    covariance_term,
    invariance_term,
    nt_xent_loss,
    variance_term,
    vicreg_loss,
)

LOSSES = [nt_xent_loss, vicreg_loss, barlow_twins_loss]
SHAPES = [(6, 4), (5, 9)]  # more samples than dimensions, and fewer


@pytest.fixture
def draw(draw: Any, device: torch.device) -> Any:
    """Seeded tensors on every device there is."""
    return lambda *shape, **kwargs: draw(*shape, **kwargs).to(device)


def nt_xent_by_anchor(z1, z2, temperature):
    """One anchor after the other, one exponential after the other."""
    z = [row / np.linalg.norm(row) for row in np.concatenate([z1, z2])]
    n = len(z1)
    losses = []
    for i, anchor in enumerate(z):
        positive = math.exp(anchor @ z[(i + n) % (2 * n)] / temperature)
        others = sum(math.exp(anchor @ z[j] / temperature) for j in range(2 * n) if j != i)
        losses.append(-math.log(positive / others))
    return np.mean(losses)


def vicreg_by_covariance(z1, z2, invariance, variance, covariance):
    """The terms as the paper writes them, weighted as the authors' repository does."""
    total = invariance * np.mean((z1 - z2) ** 2)
    for z in (z1, z2):
        c = np.cov(z, rowvar=False)
        total += variance / 2 * np.mean(np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)))
        total += covariance * np.sum((c - np.diag(np.diag(c))) ** 2) / z.shape[1]
    return total


def barlow_by_correlation(z1, z2, redundancy):
    """The full cross-correlation matrix, entry by entry."""
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
    d = z1.shape[1]
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = np.mean(a[:, i] * b[:, j])
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_nt_xent_agrees_with_a_loop_over_anchors(draw, shape):
    z1, z2 = draw(*shape), draw(*shape)
    for temperature in (0.1, 0.2, 1.0):
        expected = nt_xent_by_anchor(z1.cpu().numpy(), z2.cpu().numpy(), temperature)
        assert nt_xent_loss(z1, z2, temperature=temperature).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_vicreg_agrees_with_numpy_covariances(draw, shape):
    z1, z2 = 0.5 * draw(*shape), 0.7 * draw(*shape)
    for weights in ((25.0, 25.0, 1.0), (1.0, 2.0, 3.0)):
        expected = vicreg_by_covariance(z1.cpu().numpy(), z2.cpu().numpy(), *weights)
        actual = vicreg_loss(z1, z2, invariance=weights[0], variance=weights[1], covariance=weights[2])
        assert actual.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_barlow_twins_agrees_with_the_full_correlation_matrix(draw, shape):
    z1, z2 = draw(*shape), draw(*shape)
    for redundancy in (0.0051, 1.0):
        expected = barlow_by_correlation(z1.cpu().numpy(), z2.cpu().numpy(), redundancy)
        assert barlow_twins_loss(z1, z2, redundancy=redundancy).item() == pytest.approx(expected, rel=1e-6)


def test_vicreg_is_the_sum_of_its_terms(draw):
    z1, z2 = draw(7, 5), draw(7, 5)
    terms = (
        25 * invariance_term(z1, z2)
        + 25 * (variance_term(z1) + variance_term(z2)) / 2
        + covariance_term(z1)
        + covariance_term(z2)
    )
    torch.testing.assert_close(vicreg_loss(z1, z2), terms)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_agree_with_finite_differences(draw, loss, shape):
    z1, z2 = (0.6 * draw(*shape)).requires_grad_(), (0.6 * draw(*shape)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (z1, z2))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_nt_xent_depends_on_angles_only(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    z1, z2, square = (torch.randn(5, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    rotation, _ = torch.linalg.qr(square)
    loss = nt_xent_loss(z1, z2)
    torch.testing.assert_close(nt_xent_loss(z1 @ rotation, z2 @ rotation), loss)
    torch.testing.assert_close(nt_xent_loss(scale * z1, scale * z2), loss)
    torch.testing.assert_close(nt_xent_loss(z2, z1), loss)
    order = torch.randperm(5, generator=generator)
    torch.testing.assert_close(nt_xent_loss(z1[order], z2[order]), loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_and_autocast_do_not_coarsen_a_loss(draw, device, loss):
    z1, z2 = draw(16, 40, dtype=torch.bfloat16), draw(16, 40, dtype=torch.bfloat16)
    exact = loss(z1.double(), z2.double())
    with torch.autocast(device.type, dtype=torch.bfloat16):
        under_autocast = loss(z1.float(), z2.float())
        from_half = loss(z1, z2)
    assert under_autocast.dtype == from_half.dtype == torch.float32
    torch.testing.assert_close(under_autocast.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(from_half.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_collapsed_batches_have_finite_losses_and_gradients(loss):
    z1, z2 = torch.ones(8, 16, requires_grad=True), torch.ones(8, 16, requires_grad=True)
    value = loss(z1, z2)
    value.backward()
    assert value.isfinite()
    assert z1.grad is not None
    assert z1.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_nt_xent_of_rows_of_any_length(draw, scale):
    z1, z2 = draw(8, 16, dtype=torch.float32), draw(8, 16, dtype=torch.float32)
    torch.testing.assert_close(nt_xent_loss(scale * z1, scale * z2), nt_xent_loss(z1, z2))


def test_a_zero_row_has_no_direction_and_gets_no_gradient(draw):
    z1, z2 = draw(8, 16, dtype=torch.float32), draw(8, 16, dtype=torch.float32)
    z1[3] = 0
    z1.requires_grad_()
    value = nt_xent_loss(z1, z2)
    value.backward()
    assert value.isfinite()
    assert z1.grad is not None
    assert not z1.grad[3].any()
    assert 0 < z1.grad.abs().max() < 1


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_goes_through(draw, loss):
    z1, z2 = draw(8, 16), draw(8, 16)
    z1[2, 3] = math.nan
    assert loss(z1, z2).isnan()


@pytest.mark.parametrize("loss", LOSSES)
def test_views_of_different_shape_are_refused(draw, loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(draw(4, 3), draw(4, 5))


@pytest.mark.parametrize("loss", [vicreg_loss, barlow_twins_loss])
def test_a_batch_of_one_has_no_covariance(draw, loss):
    with pytest.raises(ValueError, match="at least 2"):
        loss(draw(1, 3), draw(1, 3))


@pytest.mark.parametrize("term", [variance_term, covariance_term])
def test_terms_of_one_view_need_a_matrix_of_two_rows(draw, term):
    for z in (draw(1, 3), draw(4)):
        with pytest.raises(ValueError, match="two rows"):
            term(z)


def test_arrays_are_refused_by_name(draw):
    with pytest.raises(TypeError, match="nt_xent_loss takes torch tensors"):
        nt_xent_loss(draw(4, 3).cpu().numpy(), draw(4, 3).cpu().numpy())
