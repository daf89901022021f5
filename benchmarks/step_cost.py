"""What a training step costs at least: operations and bytes, counted operator by operator, and the time of both.

    .venv/bin/python benchmarks/step_cost.py [--backbone resnet50] [--width 16] [--batch 64] [--device cuda]

Operations are those of convolutions and products of matrices, two for each multiplication with its addition. Bytes are
what each operator reads and writes once, as tensors have it: no kernel moves less, unless it is joined with another.

An operator takes at least the longer of its operations at the device's rate and its bytes at the device's rate. The
floor of a step is the sum over its operators, run one after the other. `joined` leaves out operators that a compiler
could join with their neighbours (activations, additions, casts), so that it is a floor for any way to run the step.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from core_images import data_section, throughput_spec
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from adadim_core import Trainer
from adadim_core.data import image_batches
from adadim_core.precision import arithmetic
from adadim_core.spec import validate_spec
from adadim_core.step import StepSettings

_NO_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh")
# The first that is part of an operator's name decides.
_KINDS = {
    "convolutions": ("convolution", "conv2d"),
    "BatchNorm": ("batch_norm",),
    "products of matrices": ("mm", "matmul", "dot_product", "linalg"),
    "optimiser": ("_foreach", "_fused", "linalg_vector_norm"),
}
_REST = "everything else"


@dataclass
class Operator:
    """One call of an operator."""

    name: str
    kind: str
    dtype: torch.dtype
    operations: int
    bytes: int


@dataclass(frozen=True)
class Rates:
    """What a device does in a second."""

    matrix: float
    """Operations of a large product of matrices in the dtype of the forward pass."""
    copy: float
    """Bytes read and written by a copy within its memory."""
    matrix_float32: float | None = None
    """Operations in float32, for the losses; None: as fast as `matrix`."""


@dataclass
class StepCost:
    """The operators of a step."""

    operators: list[Operator] = field(default_factory=list)

    @property
    def operations(self) -> int:
        """Of convolutions and products of matrices."""
        return sum(operator.operations for operator in self.operators)

    @property
    def bytes(self) -> int:
        """Read and written."""
        return sum(operator.bytes for operator in self.operators)

    def by_kind(self) -> dict[str, tuple[int, int, int]]:
        """(operators, operations, bytes) of each kind."""
        found = dict.fromkeys([*_KINDS, _REST], (0, 0, 0))
        for x in self.operators:
            calls, operations, moved = found[x.kind]
            found[x.kind] = calls + 1, operations + x.operations, moved + x.bytes
        return found

    def floor_s(self, rates: Rates, *, joined: bool = False) -> float:
        """Seconds of the step at least.

        Args:
            rates: of the device.
            joined: leave out operators that could be joined with their neighbours.
        """
        return sum(_seconds(x, rates) for x in self.operators if not joined or x.kind != _REST)


def count_step(trainer: Trainer) -> StepCost:
    """Count a step of a trainer, views included. Runs it: the networks are trained by one batch.

    Replayed steps call no operators, so the step is run as it is.
    """
    batch_size = trainer.spec.training.batch_size
    images = next(image_batches(trainer.data.train_images, [torch.arange(batch_size)], trainer.device))
    with arithmetic(), _Counter() as counter:
        views = trainer._batches.views(images[trainer._batches.share], "step", trainer.step)
        trainer._training.run(views, StepSettings(alpha=0.5, beta=0.05, lr=1e-6), step=trainer.step)
    return counter.cost


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.cost = StepCost()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func.overloadpacket
        returns = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if view or packet.__name__ in _NO_KERNEL:
            return out
        read = list(_tensors((args, kwargs)))
        written = [*_tensors(out)] or read[:1]  # an operator in place that returns nothing writes its first argument
        operations = flop_registry[packet](*args, **kwargs, out_val=out) if packet in flop_registry else 0
        unique = {id(x): x for x in read}.values()
        moved = sum(x.numel() * x.element_size() for x in [*unique, *written])
        dtype = next((x.dtype for x in read if x.is_floating_point()), torch.float32)
        self.cost.operators.append(Operator(packet.__name__, _kind(packet.__name__), dtype, int(operations), moved))
        return out


def _tensors(values: Any) -> Iterator[Tensor]:
    return (x for x in tree_leaves(values) if isinstance(x, Tensor))


def _kind(name: str) -> str:
    return next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), _REST)


def _seconds(operator: Operator, rates: Rates) -> float:
    wide = operator.dtype in (torch.float32, torch.float64) and rates.matrix_float32 is not None
    rate = rates.matrix_float32 if wide and rates.matrix_float32 else rates.matrix
    return max(operator.operations / rate, operator.bytes / rates.copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--matrix-tflops", type=float, default=700.0, help="an H100's measured peak, roughly")
    parser.add_argument("--copy-tb", type=float, default=2.6, help="TB/s of an H100's memory, read and written")
    arguments = parser.parse_args()
    projector = {"layers": 3, "hidden": 32 * arguments.width, "out": 32 * arguments.width}
    with tempfile.TemporaryDirectory() as folder:
        document = throughput_spec(
            data_section(None, Path(folder), images=2 * arguments.batch),
            model={"backbone": arguments.backbone, "width": arguments.width, "projector": projector},
            training={"batch_size": arguments.batch, "precision": "bfloat16", "compile": False},
        )
        cost = count_step(Trainer(validate_spec(document), device=arguments.device))
    rates = Rates(arguments.matrix_tflops * 1e12, arguments.copy_tb * 1e12)
    print(f"{'':24} {'operators':>9} {'TFLOP':>9} {'GB':>8}")
    for kind, (calls, operations, moved) in cost.by_kind().items():
        print(f"{kind:24} {calls:9} {operations / 1e12:9.4f} {moved / 1e9:8.3f}")
    print(f"{'together':24} {len(cost.operators):9} {cost.operations / 1e12:9.4f} {cost.bytes / 1e9:8.3f}")
    floor, joined = 1e3 * cost.floor_s(rates), 1e3 * cost.floor_s(rates, joined=True)
    print(
        f"floor at {rates.matrix / 1e12:g} TFLOP/s and {rates.copy / 1e12:g} TB/s: {floor:.3f} ms, {joined:.3f} joined"
    )
    print(f"the operations alone at their peak: {1e3 * cost.operations / rates.matrix:.3f} ms")


if __name__ == "__main__":
    main()
