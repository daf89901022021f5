"""Part throughput: how fast the trainer is, beside what the card can do, and where the time of a step goes.

ResNet-18 and -50 at full width, 32x32 images, projector 2048-2048-2048, LARS, `precision: bfloat16`, end to end with
augmentation. An image counts once for both of its views. Operations are those of the network, forward and backward, as
counted by PyTorch: convolutions and products of matrices only.
"""

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch
from step_cost import Rates, count_step
from torch.utils.flop_counter import FlopCounterMode

from adadim_core import Trainer, augment
from adadim_core.building import build_model
from adadim_core.objective import objective
from adadim_core.optimizers import build_optimizer
from adadim_core.precision import autocast
from adadim_core.seeding import generator
from adadim_core.spec import ExperimentSpec, validate_spec
from gpu.settings import WARM_UP_STEPS, Record, Settings, median_seconds, spread

# The first that is part of a kernel's name decides.
KERNELS = {
    "convolutions": ("conv", "fprop", "dgrad", "wgrad", "implicit", "cudnn", "winograd", "mkldnn"),
    "BatchNorm": ("bn_", "batch_norm", "batchnorm"),
    "products of matrices": ("gemm", "nvjet", "gemv", "cutlass", "cublas", "splitk", "aten::mm", "addmm", "bmm"),
    "optimiser": ("multi_tensor", "fused_adam", "fused_sgd", "foreach", "lpnorm"),
    "copies and casts": ("memcpy", "memset", "copy", "catarray", "direct_copy", "tensortransform", "nchwtonhwc"),
    "sums": ("reduce", "softmax", "sum", "mean"),
    "ReLU, additions and other elementwise": ("elementwise", "threshold", "clamp", "relu", "add", "mul", "triton"),
}


def run(settings: Settings, record: Record) -> None:
    peak = matrix_peak(settings)
    record.put("matrix_peak_tflops", peak / 1e12)
    copied = copy_rate(settings)
    record.put("copy_gb_per_s", copied / 1e9)
    rates = Rates(peak, copied)
    batches = (16,) if settings.smoke else (256, 512, 1024)
    for batch in batches:
        for backbone in ("resnet18", "resnet50"):
            name = f"{backbone} batch {batch}"
            record.attempt(name, lambda b=backbone, n=batch: _speed(settings, b, n, peak))
            if batch == batches[0] and settings.cuda:
                record.attempt(
                    f"{name}, plain calls", lambda b=backbone, n=batch: _speed(settings, b, n, peak, compile=False)
                )
        if batch == batches[0]:
            for backbone in ("resnet18", "resnet50"):
                record.attempt(f"{backbone} profile", lambda b=backbone, n=batch: _profile(settings, b, n))
                record.attempt(f"{backbone} pieces", lambda b=backbone, n=batch: _pieces(settings, b, n, rates))
        if batch == 512:
            for backbone in ("resnet50", "resnet18"):
                name = f"{backbone} batch {batch}, torch.compile"
                record.attempt(name, lambda b=backbone, n=batch: _speed(settings, b, n, peak, compile=True))


def matrix_peak(settings: Settings) -> float:
    """Operations a second of one large bfloat16 product of random matrices, the median of several."""
    n = 256 if settings.smoke else 8192
    a, b = (torch.randn(n, n, device=settings.device, dtype=torch.bfloat16) for _ in range(2))
    repeats = 10

    def turn() -> None:
        for _ in range(repeats):
            a @ b

    return repeats * 2 * n**3 / statistics.median(median_seconds(settings, turn, rounds=5, warm_up=2))


def copy_rate(settings: Settings) -> float:
    """Bytes a second read and written by copies within the device's memory."""
    count = 2**20 if settings.smoke else 2**30
    source = torch.randint(0, 255, (count,), device=settings.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    repeats = 10

    def turn() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return repeats * 2 * count / statistics.median(median_seconds(settings, turn, rounds=5, warm_up=2))


def trial(settings: Settings, backbone: str, batch: int, **training: Any) -> ExperimentSpec:
    """A trial that trains far longer than is measured, evaluates never and logs as by default."""
    return validate_spec(
        {
            "name": "throughput",
            "data": settings.data(),
            "model": settings.model(backbone, 64),
            "objective": {"weighting": {"policy": "fixed", "alpha": 0.5}},
            "training": {"epochs": 100_000, "batch_size": batch, "precision": settings.precision, **training},
            "evaluation": {"every_epochs": 100_000},
        }
    )


def operations(spec: ExperimentSpec, data: Any, device: str) -> float:
    """Operations of the network in one step: forward and backward over two views of each image."""
    model = build_model(spec, data, torch.device(device), backbone=None)
    images = 8
    views = torch.rand((2 * images, *data.train_images.shape[1:]), device=device)
    with FlopCounterMode(display=False) as counter:
        r, z = model(views)
        (r.sum() + z.sum()).backward()
    return counter.get_total_flops() / images * spec.training.batch_size


def _speed(settings: Settings, backbone: str, batch: int, peak: float, **training: Any) -> dict[str, Any]:
    gc.collect()  # the first trainer of a process lives on until then
    if settings.cuda:
        torch.cuda.reset_peak_memory_stats()
    spec = trial(settings, backbone, batch, **training)
    trainer = Trainer(spec, device=settings.device)
    counted = operations(spec, trainer.data, settings.device)
    steps = 2 if settings.smoke else max(5, 5120 // batch)
    trainer.train_steps(WARM_UP_STEPS)
    seconds = median_seconds(settings, lambda: trainer.train_steps(steps), rounds=3 if settings.smoke else 5)
    speeds = [steps * batch / s for s in seconds]
    speed = statistics.median(speeds)
    memory = torch.cuda.max_memory_allocated() / 2**30 if settings.cuda else 0.0
    return {
        "images_per_s": spread(speeds),
        "step_ms": 1000 * batch / speed,
        "tflop_per_step": counted / 1e12,
        "share_of_matrix_peak": speed / batch * counted / peak,
        "memory_gib": memory,
        "replayed": trainer.replays,
        "compiled": trainer._model._compiled_call_impl is not None,
    }


def _profile(settings: Settings, backbone: str, batch: int) -> dict[str, Any]:
    """Share of the time of a step by kind of kernel, and the share in which the device had nothing to do."""
    trainer = Trainer(trial(settings, backbone, batch), device=settings.device)
    steps = 2 if settings.smoke else 10
    trainer.train_steps(WARM_UP_STEPS)
    settings.wait()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if settings.cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        trainer.train_steps(steps)
        settings.wait()
    if settings.cuda:
        kernels = [
            (event.name, event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        ]
    else:
        kernels = _leaves(profiler.events())
    return {
        "steps": steps,
        "kernels_per_step": len(kernels) / steps,
        "replayed": trainer.replays,
        **_shares(kernels),
    }


def _leaves(events: Any) -> list[tuple[str, float, float]]:
    """Operators that call no other, which on a CPU are what kernels are on a GPU."""
    return [(e.name, e.time_range.start, e.time_range.end) for e in events if not e.cpu_children]


def _shares(kernels: list[tuple[str, float, float]]) -> dict[str, Any]:
    kernels.sort(key=lambda kernel: kernel[1])
    began, ended = kernels[0][1], max(end for _, _, end in kernels)
    busy, reached = 0.0, began
    kinds: dict[str, float] = {}
    names: dict[str, float] = {}
    for name, start, end in kernels:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
        kinds[kind(name)] = kinds.get(kind(name), 0.0) + end - start
        names[name[:90]] = names.get(name[:90], 0.0) + end - start
    whole = ended - began
    total = sum(kinds.values())
    shares = {
        name: round(time / total * busy / whole, 4) for name, time in sorted(kinds.items(), key=lambda item: -item[1])
    }
    top = sorted(names.items(), key=lambda item: -item[1])[:12]
    return {
        "shares": {**shares, "idle": round(1 - busy / whole, 4)},
        "top_kernels": {name: round(time / total, 4) for name, time in top},
    }


def kind(kernel: str) -> str:
    """What a kernel does, by its name."""
    lower = kernel.lower()
    return next((kind for kind, parts in KERNELS.items() if any(part in lower for part in parts)), "everything else")


def _pieces(settings: Settings, backbone: str, batch: int, rates: Rates) -> dict[str, float]:
    """Milliseconds of each piece of a step, run by itself again and again, and what a step takes at least."""
    spec = trial(settings, backbone, batch)
    device = torch.device(settings.device)
    trainer = Trainer(spec, device=device)
    data, cost = trainer.data, count_step(trainer)
    floors = {
        "floor, operator by operator": 1e3 * cost.floor_s(rates),
        "floor, what can be joined left out": 1e3 * cost.floor_s(rates, joined=True),
    }
    del trainer
    recipe = data.augmentation.with_spec(spec.data.augmentation)
    model = build_model(spec, data, device, backbone=None).train()
    optimizer = build_optimizer(model, spec.training)
    rows = torch.randperm(len(data.train_images))[:batch].to(device)
    views = augment(data.train_images[rows], recipe, generator(0, "pieces"))

    def embed() -> tuple[torch.Tensor, torch.Tensor]:
        with autocast(device, torch.bfloat16 if settings.cuda else torch.float32):
            r, z = model(views)
        return r.float(), z.float()

    def network() -> None:
        optimizer.zero_grad(set_to_none=True)
        r, z = embed()
        torch.autograd.backward([r, z], [torch.ones_like(r), torch.ones_like(z)])

    with torch.no_grad():
        fixed = embed()
    r, z = (x.detach().requires_grad_() for x in fixed)

    def losses() -> None:
        r.grad = z.grad = None
        z1, z2 = z.view(2, batch, -1).unbind()
        terms = objective(spec.objective, z1, z2, r.view(2, batch, -1)[0], alpha=0.5, beta=0.05)
        torch.autograd.backward(terms.total)

    pieces: dict[str, Callable[[], Any]] = {
        "augmentation": lambda: augment(data.train_images[rows], recipe, generator(0, "pieces")),
        "network, forward and backward": network,
        "losses, forward and backward": losses,
        "optimiser": optimizer.step,
    }
    repeats = 2 if settings.smoke else 10

    def again(piece: Callable[[], Any]) -> Callable[[], None]:
        def turn() -> None:
            for _ in range(repeats):
                piece()

        return turn

    measured = {
        name: 1000 * statistics.median(median_seconds(settings, again(piece), rounds=3)) / repeats
        for name, piece in pieces.items()
    }
    return measured | floors
