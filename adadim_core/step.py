"""One optimiser step of one network: forward, objective of the global batch, backward, update.

Owns the network's optimiser and all arithmetic between views and updated weights. Does not own which views there are
(batches), how the losses are weighted (weighting), how a step is replayed (replay), or what is measured and reported.

Nothing in a step makes the host wait for the device.

Names: N images of the global batch, n of this process; r_ND and z_ND are representations and embeddings.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from adadim_core import distributed
from adadim_core.accumulation import backward_in_parts, split_views
from adadim_core.balancing import LossBalance
from adadim_core.models import SelfSupervisedModel
from adadim_core.objective import ObjectiveTerms, Weight, objective, weighs
from adadim_core.optimizers import build_optimizer
from adadim_core.precision import autocast, resolve_precision
from adadim_core.seeding import seeded
from adadim_core.spec import ExperimentSpec


@dataclass(frozen=True)
class StepSettings:
    """What varies from step to step."""

    alpha: float
    """Weight of the sample-contrastive loss."""
    beta: float
    """Signed weight of the I(R;Z) term."""
    lr: float
    """Learning rate."""

    def metrics(self) -> dict[str, float]:
        """By metric name."""
        return asdict(self)


@dataclass(frozen=True)
class EmbeddedBatch:
    """The objective of a global batch and its representations, all without gradients."""

    terms: ObjectiveTerms
    r1: Tensor | None
    """(N, D_r) of the first view; None where it was not asked for and the loss does not depend on it."""
    z1: Tensor
    z2: Tensor


class TrainingStep:
    """Trains a network by one batch at a time."""

    def __init__(self, spec: ExperimentSpec, model: SelfSupervisedModel, device: torch.device) -> None:
        """Build the optimiser.

        Args:
            spec: a trial's.
            model: what is trained, from `build_model`.
            device: where it is.
        """
        self.spec = spec
        self.model = model
        self.device = device
        self.dtype = resolve_precision(spec.training.precision, device)
        """Of the forward pass."""
        self.optimizer = build_optimizer(model, spec.training)
        self._wrapped = distributed.wrap(model, device)
        self.balance = LossBalance(spec.objective.balancing)

    def run(self, views: Tensor, settings: StepSettings, *, step: int, needs_r: bool = True) -> EmbeddedBatch:
        """Train on one batch.

        Args:
            views: (2 * n, C, H, W), this process's share, the first views first.
            settings: weights of the losses and learning rate.
            step: number of the step, from 0; the network's own random numbers depend on it.
            needs_r: return R even if the loss does not depend on it.

        Returns:
            The objective before the update.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr
        return self.compute(views, settings.alpha, settings.beta, step=step, needs_r=needs_r)

    def compute(
        self, views: Tensor, alpha: Weight, beta: Weight, *, step: int | None, needs_r: bool = True
    ) -> EmbeddedBatch:
        """Train on one batch, at the optimiser's learning rate.

        Args:
            views: as for `run`.
            alpha, beta: weights of the losses; scalar tensors may change between two replays of these operations.
            step: number of the step; None: the network draws nothing at random, and no random numbers are seeded.
            needs_r: as for `run`.
        """
        self._wrapped.train()
        self.optimizer.zero_grad(set_to_none=True)
        batch = self._backward(views, alpha, beta, step, needs_r=needs_r)
        if self.spec.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.training.clip_norm)
        self.optimizer.step()
        return batch

    def embed_in_parts(self, views: Tensor, step: int, batch: int) -> tuple[Tensor, Tensor]:
        """R and Z of one view, in as many parts as a step has, so that it takes no more memory than a step.

        Args:
            views: (n, C, H, W).
            step: number of the step, from 0.
            batch: number of the batch among those embedded at this step.
        """
        parts = views.tensor_split(self.spec.training.accumulate)
        # Not compiled: passes without gradients over one view would be compiled for their own sake.
        plain = self.model.forward
        embedded = [self._forward(plain, part, step, batch * len(parts) + i) for i, part in enumerate(parts)]
        r, z = (torch.cat(tensors) for tensors in zip(*embedded, strict=True))
        return r, z

    def _forward(
        self, model: Callable[[Tensor], tuple[Tensor, Tensor]], views: Tensor, step: int | None, part: int = 0
    ) -> tuple[Tensor, Tensor]:
        """R and Z in float32. The network's random numbers depend on the step, the process and the part."""
        random: AbstractContextManager[None] = nullcontext()
        if step is not None:
            random = seeded(self.device, self.spec.training.seed, "forward", step, distributed.rank(), part)
        with random, autocast(self.device, self.dtype):
            r, z = model(views)
        return r.float(), z.float()

    def _backward(
        self, views: Tensor, alpha: Weight, beta: Weight, step: int | None, *, needs_r: bool
    ) -> EmbeddedBatch:
        """The objective; its gradient is accumulated in the parameters."""
        if self.spec.training.accumulate == 1:
            batch = self._objective(*self._forward(self._wrapped, views, step), alpha, beta, needs_r=needs_r)
            torch.autograd.backward(batch.terms.total)
            return replace(batch, terms=batch.terms.detach())
        batches: list[EmbeddedBatch] = []

        def loss(r: Tensor, z: Tensor) -> Tensor:
            batches.append(self._objective(r, z, alpha, beta, needs_r=needs_r))
            return batches[0].terms.total

        def forward(model: nn.Module, part: Tensor, number: int) -> tuple[Tensor, Tensor]:
            return self._forward(model, part, step, number)

        backward_in_parts(self._wrapped, split_views(views, self.spec.training.accumulate), forward, loss)
        return replace(batches[0], terms=batches[0].terms.detach())

    def _objective(self, r: Tensor, z: Tensor, alpha: Weight, beta: Weight, *, needs_r: bool) -> EmbeddedBatch:
        """The objective of the global batch from this process's share of it."""
        z1_ND, z2_ND = distributed.gather_views(z).unbind()
        r1_ND = None
        if needs_r or weighs(beta):
            # R is gathered with gradients only where the loss depends on it.
            r1_ND = distributed.gather_views(r if weighs(beta) else r.detach())[0]
        balance = self.balance
        terms = objective(self.spec.objective, z1_ND, z2_ND, r1_ND, alpha=alpha, beta=beta, balance=balance)
        return EmbeddedBatch(terms, None if r1_ND is None else r1_ND.detach(), z1_ND.detach(), z2_ND.detach())
