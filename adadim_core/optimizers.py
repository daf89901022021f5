"""Optimisers and the learning-rate schedule.

Biases and norm parameters (everything with one dimension) are exempt from weight decay, and from the adaptation
of LARS.
"""

import math
from collections.abc import Iterable
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from adadim_core.spec.sections import TrainingSpec


def build_optimizer(model: nn.Module, spec: TrainingSpec) -> torch.optim.Optimizer:
    """The optimiser the spec names over all parameters of the model: AdamW (0.9, 0.999), SGD or LARS (momentum 0.9)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay, "adapt": True},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "adapt": False},
    ]
    match spec.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=spec.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=spec.lr, momentum=0.9, fused=True)
        case "lars":
            return LARS(groups, lr=spec.lr)
        case _ as forgotten:
            assert_never(forgotten)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over momenta and step counts from a state; the settings stay those the optimiser was built with.

    Raises:
        ValueError: the state is of another optimiser or of other networks.
    """
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    if [group.keys() for group in state["param_groups"]] != [group.keys() for group in optimizer.param_groups]:
        raise ValueError("the state is of another optimiser")
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of a step (from 0): linear to the peak over the warm-up, then half a cosine to zero."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose update of each layer is scaled to the length of its weights (You et al. 2017).

    As in the Barlow Twins and VICReg repositories: u = grad + weight_decay * w is scaled by trust * |w| / |u|
    (by 1 where either is zero, and in groups with `adapt` false), then enters the momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. Takes no closure; does not synchronise with the device."""
        if closure is not None:
            raise ValueError("LARS takes no closure")
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._step_group(weights, group)

    def _step_group(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        # All tensors in a few kernels. torch has no public name for these functions, which its own optimizers call;
        # tests/adadim_core/test_optimizers.py compares the steps with the formulas, and fails if they change.
        updates = torch._foreach_add(
            [w.grad for w in weights if w.grad is not None], weights, alpha=group["weight_decay"]
        )
        if group["adapt"]:
            lengths = torch.stack(torch._foreach_norm(weights))
            update_lengths = torch.stack(torch._foreach_norm(updates))
            defined = (lengths > 0) & (update_lengths > 0)
            ratios = torch.where(defined, group["trust"] * lengths / update_lengths, 1.0)
            torch._foreach_mul_(updates, list(ratios.unbind()))
        for w in weights:
            if "momentum" not in self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(w)
        momenta = [self.state[w]["momentum"] for w in weights]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, updates)
        lr = group["lr"]
        if isinstance(lr, Tensor):  # on the device, where a number would have to be fetched from
            torch._foreach_sub_(weights, torch._foreach_mul(momenta, lr))
        else:
            torch._foreach_add_(weights, momenta, alpha=-lr)
