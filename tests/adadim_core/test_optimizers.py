"""Schedule, LARS against the published loop, and what is exempt from weight decay."""

from typing import Any

import pytest
import torch
from torch import nn

from adadim_core.optimizers import LARS, build_optimizer, learning_rate
from adadim_core.spec.sections import TrainingSpec


@pytest.fixture
def draw(draw: Any, device: torch.device) -> Any:
    """Seeded tensors on every device there is."""
    return lambda *shape, **kwargs: draw(*shape, **kwargs).to(device)


def published_lars(weights, grads_by_step, lr, weight_decay):
    """Layer by layer, as in the Barlow Twins repository, with plain numbers."""
    momenta = [torch.zeros_like(w) for w in weights]
    for grads in grads_by_step:
        for w, g, m in zip(weights, grads, momenta, strict=True):
            update = g.clone()
            if w.ndim > 1:
                update += weight_decay * w
                if w.norm() > 0 and update.norm() > 0:
                    update *= 0.001 * w.norm() / update.norm()
            m.mul_(0.9).add_(update)
            w.sub_(lr * m)
    return weights


def test_lars_agrees_with_the_published_loop(draw):
    weights = [draw(4, 3), draw(4), draw(2, 3, 3, 3), torch.zeros_like(draw(3, 3))]
    grads_by_step = [[draw(*w.shape) for w in weights] for _ in range(5)]
    model = nn.ParameterList([nn.Parameter(w.clone()) for w in weights])
    optimizer = build_optimizer(model, TrainingSpec(optimizer="lars", lr=0.3, weight_decay=0.01))
    assert isinstance(optimizer, LARS)
    for grads in grads_by_step:
        for p, g in zip(model, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    for p, expected in zip(model, published_lars(weights, grads_by_step, 0.3, 0.01), strict=True):
        torch.testing.assert_close(p.data, expected)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_are_not_decayed(name):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    groups = build_optimizer(model, TrainingSpec(optimizer=name, weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (3, 0.0)]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_every_optimiser_descends(device, name):
    torch.manual_seed(0)
    model = nn.Linear(5, 5, bias=False).to(device)
    optimizer = build_optimizer(model, TrainingSpec(optimizer=name, lr=0.3 if name == "lars" else 0.01))
    before = model.weight.square().sum().item()
    for _ in range(200):
        optimizer.zero_grad()
        model.weight.square().sum().backward()
        optimizer.step()
    assert model.weight.square().sum().item() < 0.9 * before


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_learning_rate_in_a_tensor_is_that_learning_rate(draw, device, name):
    def trained(lr):
        model = nn.ParameterList([nn.Parameter(draw(4, 3)), nn.Parameter(draw(4))])
        for parameter, start in zip(model, (torch.ones(4, 3), torch.ones(4)), strict=True):
            parameter.data = start.double().to(device)
        optimizer = build_optimizer(model, TrainingSpec(optimizer=name))
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            for group in optimizer.param_groups:
                group["lr"] = lr
            for parameter in model:
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(device)
            optimizer.step()
        return [parameter.detach() for parameter in model]

    for ours, expected in zip(trained(torch.tensor(0.25, device=device)), trained(0.25), strict=True):
        torch.testing.assert_close(ours, expected)


def test_schedule_rises_to_the_peak_then_falls_to_zero():
    rates = [learning_rate(step, peak=2.0, warmup_steps=4, total_steps=20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[12] == pytest.approx(1.0)
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.03
    assert learning_rate(0, peak=2.0, warmup_steps=0, total_steps=5) == 2.0
