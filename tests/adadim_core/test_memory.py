"""The estimate of a trial's memory against what is measured, and what is said where it does not fit."""

import gc
import itertools
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adadim_core import memory
from adadim_core.building import build_model
from adadim_core.data import load_dataset
from adadim_core.memory import (
    GpuMemoryError,
    MemoryNeed,
    MemoryWatch,
    describe_need,
    fitting_batch,
    fitting_parts,
    gpu_share,
    memory_need,
    require_fit,
)
from adadim_core.precision import autocast
from adadim_core.spec import ExperimentSpec, validate_spec
from adadim_core.trainer import Trainer

CPU = torch.device("cpu")
GIB = 2**30


def kept_by(spec: ExperimentSpec, images: int, dtype: torch.dtype) -> int:
    """Bytes that a forward pass of so many images keeps for its backward pass, beside the weights."""
    data = load_dataset("digits")
    model = build_model(spec, data, CPU, backbone=None).train()
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), autocast(CPU, dtype):
        outputs = model(torch.rand(images, 1, 8, 8))
    assert outputs
    return sum(size for pointer, size in kept.items() if pointer not in own)


@pytest.mark.parametrize(
    ("backbone", "accumulate", "precision"),
    [
        *itertools.product(["conv_small", "resnet18"], [1, 3], ["float32", "bfloat16"]),
        ("vit_tiny", 3, "bfloat16"),
        *(
            pytest.param("vit_tiny", *rest, marks=pytest.mark.slow)
            for rest in ((1, "float32"), (1, "bfloat16"), (3, "float32"))
        ),
    ],
)
def test_activations_are_those_of_a_whole_batch(tiny_spec, backbone, accumulate, precision):
    width = None if backbone == "vit_tiny" else 8
    spec = tiny_spec(
        model={"backbone": backbone, "width": width},
        training={"precision": precision, "accumulate": accumulate, "batch_size": 24},
    )
    need = memory_need(spec, build_model(spec, load_dataset("digits"), CPU, backbone=None), load_dataset("digits"), CPU)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    measured = kept_by(spec, 2 * 24 // accumulate, dtype)
    assert measured <= need.activations + need.weights
    assert need.activations < 1.6 * measured  # beside what is kept, two gradients of the largest are under way


def test_the_network_is_left_as_it_was(tiny_spec):
    spec = tiny_spec()
    model = build_model(spec, load_dataset("digits"), CPU, backbone=None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    memory_need(spec, model, load_dataset("digits"), CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_of_the_counted_passes_stays(tiny_spec):
    spec = tiny_spec(model={"backbone": "resnet18", "width": 4})
    model = build_model(spec, load_dataset("digits"), CPU, backbone=None)
    outputs: list[weakref.ref[Tensor]] = []
    for module in model.modules():  # of a ReLU, its node keeps the output
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(weakref.ref(output)))
    memory_need(spec, model, load_dataset("digits"), CPU)
    gc.collect()
    assert outputs
    assert [output for output in outputs if output() is not None] == []


def gradient_nodes_alive(model: torch.nn.Module) -> int:
    """How many parameters have a node that sums their gradient although nobody here holds a graph."""

    def node(parameter: torch.nn.Parameter) -> Any:
        return parameter.expand_as(parameter).grad_fn.next_functions[0][0]  # made anew unless there is one

    alive = 0
    for parameter in model.parameters():
        node(parameter).metadata["seen"] = True
        alive += "seen" in node(parameter).metadata
    return alive


def test_the_estimate_leaves_no_graph_behind(tiny_spec):
    """One that stayed would hold the nodes of the gradients to the stream they were made on: no step was recorded."""
    model = build_model(tiny_spec(), load_dataset("digits"), CPU, backbone=None)
    held = model(torch.zeros(4, 1, 8, 8))
    assert gradient_nodes_alive(model) == len(list(model.parameters()))
    del held
    memory_need(tiny_spec(), model, load_dataset("digits"), CPU)
    assert gradient_nodes_alive(model) == 0


def test_a_step_leaves_no_graph_behind(tiny_spec):
    made = Trainer(tiny_spec(training={"log_every_steps": 1}), device="cpu")
    made._reports.late = True
    made.train_steps(2)
    assert gradient_nodes_alive(made._model) == 0


def need_of(gib: float) -> MemoryNeed:
    return MemoryNeed(
        weights=GIB // 10, data=0, activations=int(gib * GIB), copies=0, losses=GIB // 100, evaluation=GIB // 100
    )


def spec_of(**sections: Any) -> ExperimentSpec:
    training = {"batch_size": 1024, **sections.pop("training", {})}
    return validate_spec({"name": "large", "training": training, **sections}, own_data=True)


def test_pooled_rows_are_counted(tiny_spec):
    def need(**weighting):
        made = Trainer(tiny_spec(objective={"weighting": {"policy": "adaptive", **weighting}}), device="cpu")
        return memory_need(made.spec, made._model, made.data, made.device).evaluation

    assert need(rows=4096) - need() >= 4096 * 32 * (4 + 8)


def test_what_fits_is_found():
    spec, need, available = spec_of(), need_of(40), 24 * GIB
    assert need.total > available
    parts, batch = fitting_parts(need, available, spec), fitting_batch(need, available, spec)
    assert (parts, batch) == (2, 512)
    for fitting in (parts, 1024 // batch):
        assert replace(need, activations=need.activations // fitting).total <= available
    assert fitting_parts(need, 6 * GIB, spec) == 16
    assert fitting_parts(need, GIB // 2, spec) is None
    assert fitting_batch(need, GIB // 2, spec) is None


def test_what_does_not_fit_is_refused_with_what_would():
    spec = spec_of(resources={"gpus_per_worker": 0.25})
    require_fit(need_of(10), 20 * GIB, spec)
    with pytest.raises(GpuMemoryError) as refused:
        require_fit(need_of(40), 20 * GIB, spec)
    assert str(refused.value) == (
        "the trial needs about 44.9 GiB of GPU memory, and may have 20 GiB (resources.gpus_per_worker 0.25); "
        "training.accumulate: 4 or training.batch_size: 256 would fit"
    )
    assert "no batch of this network fits" in describe_need(need_of(40), GIB // 2, spec)
    assert "something else holds the rest" in describe_need(need_of(10), 20 * GIB, spec)


def test_a_full_gpu_is_told_with_what_would_fit(tiny_spec, monkeypatch):
    made = Trainer(tiny_spec(), device="cpu")
    watch = MemoryWatch(made.spec, made._model, made.data, CPU)
    watch._need = need_of(40)
    made._memory = watch
    monkeypatch.setattr(memory, "available_memory", lambda *_: 24 * GIB)

    held: list[weakref.ref[Tensor]] = []

    def full(*_: object, **__: object) -> None:
        activations = torch.zeros(4)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(made._training, "run", full)
    with pytest.raises(GpuMemoryError, match=r"memory is full: .* training\.accumulate: 2 .* would fit") as raised:
        made.train_steps(1)
    assert raised.value.__suppress_context__
    assert held[0]() is None, "another trial of this process needs the memory"


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: torch finds no CUDA")
@pytest.mark.parametrize("compile_", ["auto", False], ids=["replayed", "as it is"])
def test_the_estimate_is_what_cuda_allocates(tiny_spec, compile_):
    spec = tiny_spec(
        model={"backbone": "resnet18", "width": 64, "projector": {"layers": 3, "hidden": 2048, "out": 2048}},
        training={"precision": "bfloat16", "batch_size": 256, "compile": compile_},
    )
    made = Trainer(spec, device="cuda")
    need = made._memory._need
    made.train_steps(2)  # cuDNN has chosen its algorithms, some of which it tries with more memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    others = torch.cuda.memory_allocated() - need.weights  # what other tests left
    made.train_steps(1)
    assert 0.6 * need.certain < torch.cuda.max_memory_allocated() - others < need.total


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: torch finds no CUDA")
def test_a_trial_keeps_to_its_share_of_cuda_memory(tiny_spec):
    share = 0.02
    spec = tiny_spec(resources={"gpus_per_worker": share})
    gc.collect()
    torch.cuda.empty_cache()
    try:
        made = Trainer(spec, device="cuda")
        total = torch.cuda.mem_get_info()[1]
        with pytest.raises(GpuMemoryError, match=r"gpus_per_worker 0\.02"), made._memory.advice():
            torch.empty(int(1.2 * share * total), dtype=torch.uint8, device="cuda")
        made.train_steps(1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize(("given", "share"), [("auto", 1), (0, 1), (0.25, 0.25), (1, 1), (2, 1)])
def test_shares(given, share):
    assert gpu_share(spec_of(resources={"gpus_per_worker": given}).resources) == share
