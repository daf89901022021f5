"""Several processes that train one model as if they were one: gathering with gradients and common batch statistics.

Owns the collectives. Without an initialised process group everything here is the identity.

Gradients: every process computes the same loss of the global batch from gathered embeddings. The backward pass of a
gather sums the gradients of all processes, so a process's parameters get `world` times their share; the averaging of
DistributedDataParallel divides by `world` and adds the shares. The result is the gradient of one process on the whole
batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if _initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if _initialized() else 0


def gather(x: Tensor) -> Tensor:
    """(world, *x.shape): the tensors of all processes in rank order, with gradients. Shapes must agree."""
    if world_size() == 1:
        return x.unsqueeze(0)
    gathered: Tensor = _Gather.apply(x.contiguous())  # type: ignore[no-untyped-call]
    return gathered


def gather_views(x: Tensor, views: int = 2) -> Tensor:
    """(views, N, D) of the global batch from each process's (views * n, D), with gradients; N = world * n."""
    gathered = gather(x.view(views, -1, x.shape[1]))
    return gathered.transpose(0, 1).reshape(views, -1, x.shape[1])


def broadcast_float(value: float, device: torch.device) -> float:
    """Rank 0's value, exactly, on every process."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(tensor, src=0)
    return float(tensor.item())


def all_ints(value: int, device: torch.device) -> list[int]:
    """The values of all processes, in rank order."""
    held: list[int] = gather(torch.tensor(value, device=device)).tolist()
    return held


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch statistics taken over all processes. Parameter and buffer names stay."""
    if world_size() == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, _GatheredBatchNorm.of(child))
        else:
            synchronize_batch_norm(child, device)
    return model


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with its gradients averaged over all processes."""
    if world_size() == 1:
        return model
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


class _GatheredBatchNorm(_BatchNorm):
    """BatchNorm over the global batch on CPU, where torch's SyncBatchNorm does not run. Equal batches per process."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> "_GatheredBatchNorm":
        copy = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        copy.load_state_dict(norm.state_dict())
        return copy.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, not {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        x = input if input.dtype == torch.float64 else input.float()
        variance, mean = torch.var_mean(x, dim=dims, correction=0)
        means, variances = gather(torch.stack([mean, variance])).unbind(dim=1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        self._update_running(mean, variance, count=world_size() * x.numel() // x.shape[1])
        shape = (1, -1, *[1] * (x.ndim - 2))
        x = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)


class _Gather(torch.autograd.Function):
    """all_gather forward; backward sums the gradients that all processes have for this one's part."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        out = x.new_empty((world_size(), *x.shape))
        dist.all_gather(list(out.unbind(0)), x)
        return out

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank()]


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()
