"""Nothing in a training step makes the host wait for the device.

On a GPU torch itself raises where the host would wait. On the CPU, where nothing waits, the operations that would are
refused: reading a number, and results whose shape depends on values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adadim_core.data import dataset
from adadim_core.measurement import measure_step
from adadim_core.step import StepSettings
from adadim_core.trainer import Trainer

WAITING = (
    "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "_unique", "_unique2",
    "bincount", "_linalg_eigh", "_linalg_svd", "linalg_eig",
)  # fmt: skip

SPECS: dict[str, dict[str, Any]] = {
    "adamw, adaptive, logged at every step": {"training": {"log_every_steps": 1}},
    "lars, clipped, barlow twins": {
        "training": {"optimizer": "lars", "clip_norm": 1.0},
        "objective": {"dimension_loss": {"name": "barlow_twins"}},
    },
    "sgd, in parts, online probe": {
        "training": {"optimizer": "sgd", "accumulate": 3},
        "evaluation": {"linear_probe": "online"},
    },
    "bfloat16, without I(R;Z)": {
        "training": {"precision": "bfloat16", "log_every_steps": 1},
        "objective": {"mutual_information": {"gamma": 0.0}},
    },
    "single invariance": {"objective": {"form": "single_invariance"}},
    "balanced by gradients": {"objective": {"balancing": "gradient"}},
    "every augmentation, resnet": {
        "model": {"backbone": "resnet18"},
        "data": {"augmentation": {"crop_scale": [0.3, 1.0], "flip": 0.5, "jitter": 0.5, "blur": 0.5, "solarize": 0.2}},
    },
}


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if name in WAITING or any(x is not None and x.dtype == torch.bool for x in indices):
            raise AssertionError(f"{func} makes the host wait")
        return func(*args, **(kwargs or {}))


@contextmanager
def gpu_must_not_wait() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.linalg.eigvalsh(x @ x.T),
    ],
    ids=["item", "bool", "boolean index", "nonzero", "eigenvalues"],
)
def test_what_waits_is_noticed(draw, waits):
    with NoWaiting(), pytest.raises(AssertionError, match="makes the host wait"):
        waits(draw(4, 4))


@pytest.mark.parametrize("name", SPECS)
def test_no_operation_of_a_step_waits(tiny_spec, name):
    made = Trainer(tiny_spec(**SPECS[name]), device="cpu")
    made.train_steps(1)  # optimisers make their state
    images = made.data.train_images[:128]
    with NoWaiting():
        views = made._batches.views(images, "step", 1)
        batch = made._training.run(views, StepSettings(alpha=0.5, beta=0.05, lr=1e-3), step=1)
        assert isinstance(batch.r1, Tensor)
        if made._probe is not None:
            made._probe.learn(batch.r1, made.data.train_labels[:128])
        measure_step(batch.terms, batch.r1, batch.z1, batch.z2, order=2.0, computed_in=made._training.dtype)


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: torch finds no CUDA")
@pytest.mark.parametrize("compile_", ["auto", False], ids=["replayed", "as it is"])
@pytest.mark.parametrize("stored", ["on the device", "in memory"])
@pytest.mark.parametrize("name", SPECS)
def test_cuda_is_never_waited_for(tiny_spec, monkeypatch, name, stored, compile_):
    if stored == "in memory":
        monkeypatch.setattr(dataset, "_SHARE_OF_DEVICE", 0.0)
    sections = SPECS[name]
    spec = tiny_spec(**{**sections, "training": {**sections.get("training", {}), "compile": compile_}})
    made = Trainer(spec, device="cuda")
    assert (made.data.train_images.device.type == "cpu") == (stored == "in memory")
    made.train_steps(6)  # the untrained network is measured, and what is replayed is recorded
    assert made.replays == (compile_ == "auto")
    with gpu_must_not_wait():
        made.train_steps(4)
    made.train_epoch()
