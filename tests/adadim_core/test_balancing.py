"""Balanced losses and the form with one invariance term, against their formulas; and their state."""

import math

import pytest
import torch

from adadim_core.balancing import LossBalance
from adadim_core.losses import negatives_loss, nt_xent_loss, vicreg_loss, vicreg_terms
from adadim_core.objective import objective
from adadim_core.spec.losses import VICReg
from adadim_core.spec.objective import ObjectiveSpec

ALPHA = 0.3


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    z2 = z1 + 0.3 * torch.randn(16, 8, generator=generator, dtype=torch.float64)
    return z1.requires_grad_(), z2.requires_grad_()


def length_of_gradient(loss: torch.Tensor, views: tuple[torch.Tensor, torch.Tensor]) -> float:
    gradients = torch.autograd.grad(loss, views, retain_graph=True)
    return math.hypot(*(gradient.norm().item() for gradient in gradients))


def test_initial_divides_each_loss_by_what_it_was_at_first(views):
    spec = ObjectiveSpec(balancing="initial")
    balance = LossBalance("initial")
    first = objective(spec, *views, None, alpha=ALPHA, beta=0.0, balance=balance)
    assert first.total.item() == pytest.approx(1.0)
    assert first.dimension.item() == pytest.approx(vicreg_loss(*views).item())  # logged as it is
    other = tuple(2 * z for z in views)
    expected = (1 - ALPHA) * vicreg_loss(*other) / vicreg_loss(*views) + ALPHA * nt_xent_loss(*other) / nt_xent_loss(
        *views
    )
    resumed = LossBalance("initial")
    resumed.load_state_dict(balance.state_dict())
    for going_on in (balance, resumed):
        later = objective(spec, *other, None, alpha=ALPHA, beta=0.0, balance=going_on)
        assert later.total.item() == pytest.approx(expected.item())


def test_initial_knows_a_loss_that_has_no_weight_at_first(views):
    balance = LossBalance("initial")
    spec = ObjectiveSpec(balancing="initial")
    objective(spec, *views, None, alpha=0.0, beta=0.0, balance=balance)
    assert objective(spec, *views, None, alpha=1.0, beta=0.0, balance=balance).total.item() == pytest.approx(1.0)


def test_gradient_makes_both_gradients_as_long(views):
    spec = ObjectiveSpec(balancing="gradient")
    for alpha in (0.0, 1.0):
        terms = objective(spec, *views, None, alpha=alpha, beta=0.0, balance=LossBalance("gradient"))
        assert length_of_gradient(terms.total, views) == pytest.approx(1.0)
    terms = objective(spec, *views, None, alpha=ALPHA, beta=0.0, balance=LossBalance("gradient"))
    sizes = [length_of_gradient(loss(*views), views) for loss in (vicreg_loss, nt_xent_loss)]
    assert sizes[0] > 2 * sizes[1]
    expected = (1 - ALPHA) * terms.dimension / sizes[0] + ALPHA * terms.sample / sizes[1]
    assert terms.total.item() == pytest.approx(expected.item())


def test_without_gradient_or_size_a_loss_stays_as_it_is(views):
    constant = torch.zeros(())
    with torch.no_grad():
        assert LossBalance("gradient").factors((constant, constant), views) == (1.0, 1.0)
    assert [float(factor) for factor in LossBalance("initial").factors((constant, constant), views)] == [1.0, 1.0]
    flat = (0 * torch.cat(views).sum(),) * 2
    assert [float(factor) for factor in LossBalance("gradient").factors(flat, views)] == [1.0, 1.0]


def test_negatives_are_all_but_the_anchor_and_its_other_view(views):
    temperature = 0.5
    u = torch.nn.functional.normalize(torch.cat(views), dim=1)
    cosines = (u @ u.T).tolist()
    expected = 0.0
    for anchor, row in enumerate(cosines):
        others = [cosine for i, cosine in enumerate(row) if i not in (anchor, (anchor + 16) % 32)]
        expected += math.log(sum(math.exp(cosine / temperature) for cosine in others)) / 32
    assert negatives_loss(*views, temperature=temperature).item() == pytest.approx(expected)
    # Two images: each anchor has the two views of the other one.
    assert negatives_loss(torch.eye(2), torch.eye(2)).item() == pytest.approx(math.log(2))


def test_single_invariance_keeps_the_invariance_out_of_alpha(views):
    vicreg = VICReg(invariance=2.0, variance=3.0, covariance=5.0)
    spec = ObjectiveSpec(form="single_invariance", dimension_loss=vicreg)
    s, v, c = vicreg_terms(*views)
    negatives = negatives_loss(*views)
    terms = objective(spec, *views, None, alpha=ALPHA, beta=0.0)
    expected = 2 * s + (1 - ALPHA) * (3 * v + 5 * c) + ALPHA * negatives
    assert terms.total.item() == pytest.approx(expected.item())
    assert terms.dimension.item() == pytest.approx((3 * v + 5 * c).item())
    assert terms.sample.item() == pytest.approx(negatives.item())
    assert {name: part.item() for name, part in terms.parts.items()} == pytest.approx(
        {"loss_invariance": s.item(), "loss_variance": v.item(), "loss_covariance": c.item()}
    )
    only_negatives = objective(spec, *views, None, alpha=1.0, beta=0.0)
    assert only_negatives.total.item() == pytest.approx((2 * s + negatives).item())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"form": "single_invariance", "dimension_loss": {"name": "barlow_twins"}}, "takes VICReg apart"),
        ({"form": "single_invariance", "balancing": "initial"}, "has three terms"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ObjectiveSpec.model_validate(fields)
