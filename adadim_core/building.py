"""Builds the parts of a trainer from its spec: the device, the images, this process's share of a batch, the networks.

Functions only. What is done with the parts is in trainer.py.
"""

import logging
import os

import torch
from torch import Tensor

from adadim_core import distributed
from adadim_core.batch_norm import frozen_statistics
from adadim_core.data import DataError, ImageDataset, load_dataset
from adadim_core.models import SelfSupervisedModel, build_encoder, build_projector
from adadim_core.precision import autocast
from adadim_core.seeding import seeded
from adadim_core.spec import ExperimentSpec
from adadim_core.spec.conditions import check_batch, check_images
from adadim_core.spec.sections import DataSpec, TrainingSpec

logger = logging.getLogger(__name__)


def pick_device(device: torch.device | str | None) -> torch.device:
    """The requested device; None: CUDA if available, with one device per process, otherwise the CPU."""
    if device is not None:
        given = torch.device(device)
        return given if given.type != "cuda" or given.index is not None else torch.device("cuda", 0)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if distributed.world_size() > 1 else 0)


def load_images(spec: DataSpec) -> ImageDataset:
    """The data set a spec names, on the CPU. Raises DataError."""
    return load_dataset(spec.dataset, path=spec.path, image_size=spec.image_size, bad_files=spec.bad_files)


def require_same_images(data: ImageDataset, device: torch.device) -> None:
    """Raise DataError unless all processes of the trial read the same images: their nodes may hold different copies."""
    found = distributed.all_ints(int(data.summary.fingerprint[:15], 16), device)
    if min(found) != max(found):
        counts = ", ".join(map(str, distributed.all_ints(len(data.train_images), device)))
        raise DataError(
            f"the processes of this trial read different images of {data.name} (training images by process: {counts}): "
            "the nodes must hold the same files"
        )


def share_of_batch(spec: TrainingSpec, data: ImageDataset) -> slice:
    """The part of each global batch that this process works on.

    Raises:
        ValueError: the images are not square, or batch size, processes and parts do not fit each other and the data.
    """
    count, _, height, width = data.train_images.shape
    if height != width:
        raise ValueError(f"the images of {data.name} are {width} x {height} pixels: set data.image_size")
    batch_size, world = spec.batch_size, distributed.world_size()
    check_images(batch_size, images=count, dataset=data.name)
    check_batch(batch_size, processes=world, accumulate=spec.accumulate)
    share = batch_size // world
    return slice(distributed.rank() * share, (distributed.rank() + 1) * share)


def build_model(
    spec: ExperimentSpec, data: ImageDataset, device: torch.device, *, backbone: str | None
) -> SelfSupervisedModel:
    """Encoder and projector on the device, in the encoder's memory format, with the initial weights of the spec's seed.

    With several processes BatchNorm takes its statistics over all of them.

    Args:
        backbone: a network known through `register_backbone`, in place of the one the spec names.
    """
    with seeded(torch.device("cpu"), spec.training.seed, "weights"):
        encoder = build_encoder(
            spec.model, mean=data.mean, std=data.std, image_size=data.train_images.shape[-1], backbone=backbone
        )
        model = SelfSupervisedModel(encoder, build_projector(spec.model.projector, encoder.features))
    distributed.synchronize_batch_norm(model, device)
    model.to(device)
    for weight in model.parameters():
        if weight.ndim == 4:
            # Made anew: a 1x1 kernel is contiguous either way, but with the other strides than its gradient's, and
            # operations over many tensors at once want one layout.
            weight.data = torch.empty_like(weight, memory_format=encoder.memory_format).copy_(weight.data)
    return model


def compile_in_place(model: SelfSupervisedModel, views: Tensor, dtype: torch.dtype) -> None:
    """Compile the network for training and run it at once, so that a failure is known before training.

    If the compiler raises anything, the network stays uncompiled.

    Args:
        model: its evaluation stays as it is.
        views: as many as pass through it at once in training.
        dtype: of the forward pass.
    """
    torch.compiler.reset()  # earlier trials in this process count towards its limit of recompilations
    plain = model._compiled_call_impl  # Module.compile has no public way back; a test notices when this name goes
    model.compile()
    device = views.device
    try:
        with frozen_statistics(model):
            with seeded(device, 0, "compilation"), autocast(device, dtype):
                _, z = model.train()(views)
            torch.autograd.backward(z.float().sum())
    except Exception as error:  # noqa: BLE001 - compilers raise anything
        model._compiled_call_impl = plain
        reason = (str(error) or type(error).__name__).splitlines()[0]
        logger.warning("torch.compile failed, training goes on without it: %s", reason)
    for parameter in model.parameters():
        parameter.grad = None
