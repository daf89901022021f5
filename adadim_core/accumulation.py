"""Gradients of a loss that belongs to the whole batch, from forward passes over parts of it.

Losses here compare all samples with each other, so the usual sum of the losses of the parts would be a different loss.
Instead (Gao, Zhang, Han, Callan 2021, "GradCache"): embed all parts without a graph, take the loss of the whole and its
gradient with respect to the embeddings, then run each part again with a graph and backpropagate its share. This costs
one more forward pass and holds the activations of one part at a time.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adadim_core.batch_norm import frozen_statistics

Forward = Callable[[nn.Module, Tensor, int], tuple[Tensor, Tensor]]
"""(model, images, number of the part) to R and Z. It must give the same result when called again."""


def split_views(views: Tensor, parts: int) -> list[Tensor]:
    """(2 n, ...) as parts of (2 n / parts, ...) that hold both views of their images; sizes differ by one image."""
    halves = views.view(2, -1, *views.shape[1:])
    return [part.flatten(0, 1) for part in halves.tensor_split(parts, dim=1)]


def join_views(parts: Sequence[Tensor]) -> Tensor:
    """The reverse of `split_views`."""
    return torch.cat([part.view(2, -1, part.shape[1]) for part in parts], dim=1).flatten(0, 1)


def backward_in_parts(
    model: nn.Module, parts: Sequence[Tensor], forward: Forward, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Add the gradient of loss(R, Z) of the whole batch to the model's parameters.

    BatchNorm normalises each part by its own statistics and records each.

    Args:
        model: the network to train; if it is wrapped in DistributedDataParallel, its gradients are reduced once.
        parts: from `split_views`.
        forward: one pass.
        loss: of the embeddings of all parts, in the order of the batch.
    """
    network: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    with torch.no_grad(), frozen_statistics(network):
        embedded = [forward(network, part, i) for i, part in enumerate(parts)]
    leaves = [join_views(tensors).requires_grad_() for tensors in zip(*embedded, strict=True)]
    torch.autograd.backward(loss(*leaves))
    # The loss need not depend on both.
    shares = [None if leaf.grad is None else split_views(leaf.grad, len(parts)) for leaf in leaves]
    for i, part in enumerate(parts):
        reduce_later = isinstance(model, DistributedDataParallel) and i < len(parts) - 1
        with model.no_sync() if reduce_later else nullcontext():  # type: ignore[operator]
            outputs = forward(model, part, i)
            used = [(x, share[i]) for x, share in zip(outputs, shares, strict=True) if share is not None]
            torch.autograd.backward([x for x, _ in used], [gradient for _, gradient in used])
