"""What the two losses are divided by before alpha weighs them, so that their sizes do not decide instead of it.

With its default weights VICReg is about five times as large as NT-Xent: at alpha = 0.5 it has most of the gradient.
Owns the divisors and their state. Does not own the losses (losses) or how they are put together (objective).
"""

from collections.abc import Sequence
from typing import Any, assert_never

import torch
from torch import Tensor

from adadim_core.spec.objective import Balancing


class LossBalance:
    """Gives the factors of the two losses. Only `initial` has state: the losses at the first step."""

    def __init__(self, balancing: Balancing) -> None:
        self._balancing = balancing
        self._initial: Tensor | None = None
        """(2,) of the dimension- and the sample-contrastive loss."""

    def factors(self, losses: Sequence[Tensor], z: Sequence[Tensor]) -> Sequence[Tensor | float]:
        """What each loss is multiplied by: one over its size. Nothing waits for a GPU.

        initial: the size is the loss itself at the first call. gradient: the length of its gradient with respect to Z
        of both views; a loss without gradient has factor 1.

        Args:
            losses: the two, as scalar tensors with their graph.
            z: embeddings of the two views, (N, D_z) each, that the losses were computed from.
        """
        match self._balancing:
            case "none":
                return 1.0, 1.0
            case "initial":
                if self._initial is None:
                    self._initial = torch.stack([loss.detach() for loss in losses])
                return _one_over(self._initial.abs()).unbind()
            case "gradient":
                return tuple(_one_over(_gradient_norm(loss, z)) if loss.requires_grad else 1.0 for loss in losses)
            case _ as forgotten:
                assert_never(forgotten)

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self._initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._initial = state["initial"]


def _gradient_norm(loss: Tensor, z: Sequence[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, list(z), retain_graph=True)
    lengths = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    length: Tensor = torch.linalg.vector_norm(lengths)
    return length


def _one_over(size: Tensor) -> Tensor:
    """1 / size; 1 where the size is 0."""
    return torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 1.0)
