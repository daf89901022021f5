"""GPU memory of a trial: its need, estimated before training, compared with its share, and advice if it does not fit.

Owns the estimate, the comparison and the advice. Does not own what is allocated (step, evaluation, replay).
"""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adadim_core import distributed
from adadim_core.batch_norm import frozen_statistics
from adadim_core.data import ImageDataset
from adadim_core.label_free import SAMPLES
from adadim_core.models import SelfSupervisedModel
from adadim_core.precision import autocast, resolve_precision
from adadim_core.spec import ExperimentSpec
from adadim_core.spec.sections import ResourcesSpec, TrainingSpec
from adadim_core.spec.weightings import AdaptiveWeighting

_FLOAT = 4
_STATE_FLOATS = {"adamw": 2, "sgd": 1, "lars": 1}
"""Numbers that an optimiser keeps for each parameter."""
_RESERVE = 3 * 2**28
"""What a process takes of a GPU beside its tensors: context, code of the kernels, workspaces. 0.75 GiB."""
_ROOM = 1.1
"""Memory is handed out in blocks, some of them in part only."""


class GpuMemoryError(RuntimeError):
    """A trial needs more GPU memory than it may have. The message says how much, and what would fit."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a trial needs in each of its processes, at its largest."""

    weights: int
    """Parameters, their gradients, copies in half precision and what the optimiser keeps."""
    data: int
    """Images that live on the device."""
    activations: int
    """What the forward pass of one part of a batch keeps for the backward pass, and the gradient under way."""
    copies: int
    """Of weights and optimiser state, while a step is recorded."""
    losses: int
    """Embeddings of the global batch, their products and what is measured of them."""
    evaluation: int
    """R of all images or pooled Z, and the products that a rank over them needs."""

    @property
    def certain(self) -> int:
        """Bytes held at one time, whatever the allocator does."""
        return self.weights + self.data + self.activations

    @property
    def total(self) -> int:
        """With room for memory other than tensors."""
        held = self.weights + self.data + max(self.activations + self.losses + self.copies, self.evaluation)
        return int(_ROOM * held) + _RESERVE


def memory_need(
    spec: ExperimentSpec, model: SelfSupervisedModel, data: ImageDataset, device: torch.device
) -> MemoryNeed:
    """The estimate, from the network itself: what it keeps for two and for four images, extrapolated to a batch.

    Args:
        spec: a trial's.
        model: on the device, not compiled. Passes a few images; its gradients and statistics stay.
        data: images of the trial, where they are to be.
        device: where to train.
    """
    training = spec.training
    dtype = resolve_precision(training.precision, device)
    parameters = sum(p.numel() for p in model.parameters())
    state = _STATE_FLOATS[training.optimizer]
    # A recorded step is compared with the step itself, from copies of what both begin with and of what one comes to.
    copies = 0 if training.compile is False else 2 * (1 + state)
    shape = tuple(data.train_images.shape[1:])
    two, four = (_kept(model, torch.zeros((n, *shape), device=device), dtype) for n in (2, 4))
    each, fixed = (four.bytes - two.bytes) // 2, 2 * two.bytes - four.bytes
    largest = (four.largest - two.largest) // 2
    images = 2 * _part(training)
    stored = [x for x in (data.train_images, data.test_images) if isinstance(x, Tensor) and x.device == device]
    return MemoryNeed(
        weights=_FLOAT * parameters * (2 + state) + max(fixed, 0),
        data=sum(x.numel() for x in stored),
        activations=images * (each + 2 * largest),
        copies=_FLOAT * parameters * copies,
        losses=_losses(training.batch_size, spec.model.projector.out, model.encoder.features),
        evaluation=_evaluation(
            len(data.train_images) + len(data.test_images), model.encoder.features, spec.model.projector.out
        )
        + _pooled(spec),
    )


def available_memory(resources: ResourcesSpec, device: torch.device) -> int:
    """Bytes of the GPU that a process of a trial may have: its share, and no more than is free."""
    free, total = torch.cuda.mem_get_info(device)
    # What earlier trials of this process left is still its own.
    own = torch.cuda.memory_reserved(device)
    share = int(gpu_share(resources) * total)
    return min(share, free + own)


def gpu_share(resources: ResourcesSpec) -> float:
    """The share of a GPU that a process of a trial may use, in (0, 1]."""
    given = resources.gpus_per_worker
    return float(given) if given != "auto" and 0 < given < 1 else 1.0


def limit_memory(resources: ResourcesSpec, device: torch.device) -> None:
    """Keep this process within its share of the GPU: if it needs more, it fails and not its neighbours."""
    total = torch.cuda.mem_get_info(device)[1]
    share = gpu_share(resources)
    torch.cuda.set_per_process_memory_fraction(1.0 if share == 1 else max(share - _RESERVE / total, 0.01), device)


class MemoryWatch:
    """Keeps a trial within its share of the GPU: refuses one that cannot fit, advises if memory runs out.

    On the CPU it does nothing.
    """

    def __init__(
        self, spec: ExperimentSpec, model: SelfSupervisedModel, data: ImageDataset, device: torch.device
    ) -> None:
        """Raises GpuMemoryError if the memory cannot suffice."""
        self._spec = spec
        self._device = device
        if device.type == "cuda":
            gc.collect()  # an earlier trial of this process may be garbage that has not been noticed yet
            torch.cuda.empty_cache()
            limit_memory(spec.resources, device)
            self._need = memory_need(spec, model, data, device)
            require_fit(self._need, available_memory(spec.resources, device), spec)

    @contextmanager
    def advice(self) -> Iterator[None]:
        """Within it, a full GPU raises GpuMemoryError."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)  # they hold tensors, which must be gone before another trial
            available = available_memory(self._spec.resources, self._device)
            raise GpuMemoryError(
                f"the GPU's memory is full: the trial needs {describe_need(self._need, available, self._spec)}"
            ) from None


def require_fit(need: MemoryNeed, available: int, spec: ExperimentSpec) -> None:
    """Raise GpuMemoryError if the memory cannot suffice, with what would fit."""
    if need.certain + _RESERVE > available:
        raise GpuMemoryError(f"the trial needs {describe_need(need, available, spec)}")


def describe_need(need: MemoryNeed, available: int, spec: ExperimentSpec) -> str:
    """How much is needed and available, and which batch or number of parts would fit, as the end of a sentence."""
    text = f"about {_gib(need.total)} of GPU memory, and may have {_gib(available)}"
    share = gpu_share(spec.resources)
    if share < 1:
        text += f" (resources.gpus_per_worker {share:g})"
    if need.total <= available:
        return f"{text}, by the estimate; something else holds the rest, or training.accumulate must be larger"
    parts, batch = fitting_parts(need, available, spec), fitting_batch(need, available, spec)
    fitting = [f"training.accumulate: {parts}"] if parts else []
    fitting += [f"training.batch_size: {batch}"] if batch else []
    if fitting:
        return f"{text}; {' or '.join(fitting)} would fit"
    return f"{text}; no batch of this network fits: a larger share of the GPU or a smaller network is needed"


def fitting_parts(need: MemoryNeed, available: int, spec: ExperimentSpec) -> int | None:
    """The smallest `training.accumulate`, a power of two, with which the trial fits; None: none does."""
    parts = 2 * spec.training.accumulate
    while 2 * parts <= spec.training.batch_size // distributed.world_size():
        if replace(need, activations=need.activations * spec.training.accumulate // parts).total <= available:
            return parts
        parts *= 2
    return None


def fitting_batch(need: MemoryNeed, available: int, spec: ExperimentSpec) -> int | None:
    """The largest `training.batch_size`, this one halved repeatedly, with which the trial fits; None: none does."""
    size = spec.training.batch_size // 2
    while size >= max(4, 2 * spec.training.accumulate * distributed.world_size()):
        ratio = size / spec.training.batch_size
        if replace(need, activations=int(need.activations * ratio), losses=int(need.losses * ratio)).total <= available:
            return size
        size //= 2
    return None


@dataclass(frozen=True)
class _Kept:
    """What a forward pass keeps for the backward pass."""

    bytes: int
    largest: int


def _kept(model: SelfSupervisedModel, images: Tensor, dtype: torch.dtype) -> _Kept:
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        # Without its node: one that keeps its own output is a cycle that nobody frees. All activations would stay, and
        # nodes of this stream, which break off the recording of a step on another one.
        return tensor.detach()

    training = model.training
    noting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with frozen_statistics(model), autocast(images.device, dtype), noting:
        outputs = model.train()(images)  # held until all is noted, so that no storage is used twice
    model.train(training)
    del outputs
    return _Kept(sum(storages.values()), max(storages.values(), default=0))


def _part(training: TrainingSpec) -> int:
    """The largest number of images that a process passes through the network at once."""
    return -(-training.batch_size // (distributed.world_size() * training.accumulate))


def _losses(batch: int, d_z: int, d_r: int) -> int:
    """Embeddings with gradients and centred copies, 2N x 2N logits, and the measurement in float64."""
    embeddings = _FLOAT * 2 * batch * (d_r + 5 * d_z)
    logits = _FLOAT * 3 * (2 * batch) ** 2
    measured = 8 * (2 * batch * (d_r + d_z) + 6 * batch**2)
    return embeddings + logits + measured


def _evaluation(images: int, d_r: int, d_z: int) -> int:
    """R of all images and Z of a sample in float32 and float64; their products with the eigenvalue routine's copies."""
    return _FLOAT * images * d_r + 3 * _FLOAT * SAMPLES * d_z + 3 * 8 * max(d_r, d_z) ** 2


def _pooled(spec: ExperimentSpec) -> int:
    """Pooled Z in float32 and float64, and its product with the eigenvalue routine's copies; 0 without pooling."""
    weighting, d = spec.objective.weighting, spec.model.projector.out
    rows = weighting.rows if isinstance(weighting, AdaptiveWeighting) else None
    return 0 if rows is None else (_FLOAT + 2 * 8) * rows * d + 3 * 8 * min(rows, d) ** 2


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
