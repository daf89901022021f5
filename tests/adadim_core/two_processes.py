"""Run as a script: one of several gloo processes that train one model. Rank 0 writes what came out.

    python two_processes.py RANK WORLD FOLDER

With WORLD 1 there is no process group: the same code gives what the others must agree with.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from adadim_core import EncoderConfig, Trainer, distributed, register_backbone
from adadim_core.models import SelfSupervisedModel, build_encoder, build_projector
from adadim_core.objective import objective
from adadim_core.spec import parse_spec, validate_spec

BATCH = 32
OBJECTIVES = {
    "vicreg": ({"dimension_loss": {"name": "vicreg"}}, 0.0, 0.0),
    "barlow_twins": ({"dimension_loss": {"name": "barlow_twins"}}, 0.0, 0.0),
    "nt_xent": ({}, 1.0, 0.0),
    "mixed with information": ({}, 0.4, 0.3),
    "mixed with information of order 1.5": ({"mutual_information": {"order": 1.5}}, 0.4, -0.3),
}


def loss_and_gradients(name: str) -> dict[str, torch.Tensor]:
    section, alpha, beta = OBJECTIVES[name]
    model_section = {"backbone": "conv_small", "width": 4, "projector": {"layers": 3, "hidden": 24, "out": 40}}
    spec = validate_spec({"name": "x", "objective": section, "model": model_section})
    torch.manual_seed(0)
    encoder = build_encoder(spec.model, mean=(0.5,), std=(0.3,))
    model: nn.Module = SelfSupervisedModel(encoder, build_projector(spec.model.projector, encoder.features))
    images = torch.rand(2, BATCH, 1, 8, 8)
    model = distributed.synchronize_batch_norm(model, torch.device("cpu"))
    if distributed.world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model)
    share = BATCH // distributed.world_size()
    mine = images[:, distributed.rank() * share : (distributed.rank() + 1) * share]
    r, z = model(mine.flatten(0, 1))
    z1, z2 = distributed.gather_views(z).unbind()
    terms = objective(spec.objective, z1, z2, distributed.gather_views(r)[0] if beta else None, alpha=alpha, beta=beta)
    terms.total.backward()
    names = [n.removeprefix("module.") for n, _ in model.named_parameters()]
    gradients = {n: p.grad for n, p in zip(names, model.parameters(), strict=True)}
    buffers = {n.removeprefix("module."): b for n, b in model.named_buffers()}
    return {"loss": terms.total.detach(), **gradients, **buffers}


def perceptron(config: EncoderConfig) -> nn.Module:
    """Without batch statistics, which belong to a part of the batch."""
    return nn.Sequential(nn.Flatten(), nn.Linear(config.image_size**2, 24), nn.Tanh())


def trained(
    folder: Path, params: dict[str, object], backbone: str | None = None, *, stop: int | None = None
) -> dict[str, object]:
    """An epoch; stopped and resumed after some steps, where that is asked for."""
    points: list[tuple[int, float, dict[str, float]]] = []
    spec = parse_spec((folder / "spec.yaml").read_bytes()).with_params(params)

    def report(step: int, epoch: float, values: Mapping[str, float]) -> None:
        points.append((step, epoch, dict(values)))

    trainer = Trainer(spec, device="cpu", report=report, backbone=backbone)
    if stop is not None:
        trainer.train_steps(stop)
        path = folder / f"world{distributed.world_size()}.pt"
        save(trainer, path)
        trainer = Trainer(spec, device="cpu", report=report, backbone=backbone)
        trainer.load(path)
    last = trainer.train_epoch()
    return {"points": points, "last": last, "model": trainer.state_dict()["model"]}


def save(trainer: Trainer, path: Path) -> None:
    if distributed.rank() == 0:
        trainer.save(path)
    if distributed.world_size() > 1:
        dist.barrier()


def collapsed(folder: Path) -> dict[str, object]:
    """A run that ends by its collapse, the known way: invariance alone, no BatchNorm."""
    params = {
        "objective.weighting": {"policy": "fixed", "alpha": 0.0},
        "objective.dimension_loss": {"name": "vicreg", "variance": 0.0, "covariance": 0.0},
        "model.projector.layers": 1,
        "training.epochs": 10,
        "training.optimizer": "adamw",
        "training.lr": 0.02,
        "training.collapse": {"share": 0.8, "stop": True},
        "training.log_every_steps": 2,
    }
    trainer = Trainer(parse_spec((folder / "spec.yaml").read_bytes()).with_params(params), backbone="perceptron")
    trainer.fit()
    return {"step": trainer.step, "collapsed_at": trainer.collapsed_at}


def disagreement(folder: Path) -> str:
    """What is said where only the first process finds the checkpoint."""
    trainer = Trainer(parse_spec((folder / "spec.yaml").read_bytes()), device="cpu")
    try:
        trainer.load(folder / (f"world{distributed.world_size()}.pt" if distributed.rank() == 0 else "missing.pt"))
    except RuntimeError as error:
        return str(error)
    return ""


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    results = {name: loss_and_gradients(name) for name in OBJECTIVES}
    settings = {"evaluation.linear_probe": "online", "training.clip_norm": 1.0}
    results["trained"] = trained(folder, settings)
    results["resumed"] = trained(folder, settings, stop=3)
    results["disagreement"] = disagreement(folder)
    register_backbone("perceptron", perceptron)
    in_parts = {"training.accumulate": 4, "model.projector.layers": 1, "objective.mutual_information.gamma": 1.0}
    results["trained in parts"] = trained(folder, in_parts, "perceptron")
    results["collapsed"] = collapsed(folder)
    torch.save(results, folder / f"world{world}-rank{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
