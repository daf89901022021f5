"""Is what is learnt real? CIFAR-10 without labels on a CPU: k-NN by R against k-NN on pixels, and the trajectories.

    .venv/bin/python benchmarks/core_learning.py --data PATH [--minutes 20] [--out FOLDER] [--set training.lr=0.03]

PATH is an image folder or archive (train/<class>/*, test/<class>/*), or the official CIFAR-10 archive. The number of
epochs follows from the time: a few steps are timed first. Writes learning.json and learning.png, of which
docs/ has a copy.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from core_images import AUGMENTATION, data_section
from machine import describe
from torch import Tensor

from adadim_core import ExperimentSpec, Trainer, knn_accuracy
from adadim_core.data import Images
from adadim_core.spec import validate_spec

# Evaluations and measurements between epochs, and a machine that is not always as quiet as during the first steps.
TRAINING_SHARE = 0.85
PANELS = {
    "H(R), nats": ["h_r"],
    "I(R;Z), nats": ["i_rz"],
    "alpha": ["alpha"],
    "effective rank": ["erank_r", "erank_z"],
    "loss": ["loss"],
    "accuracy": ["knn_top1", "linear_top1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="image folder or archive, or CIFAR-10 archive")
    parser.add_argument("--minutes", type=float, default=20.0, help="for everything but reading the images")
    parser.add_argument("--epochs", type=int, help="in place of what the time allows")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", help="fields of the spec")
    arguments = parser.parse_args()
    machine = describe("torch", "numpy")
    print(machine)
    data = data_section(arguments.data, Path())
    changes = {path: yaml.safe_load(value) for path, _, value in (item.partition("=") for item in arguments.set)}

    began = time.perf_counter()
    probe = Trainer(_spec(data, epochs=2, changes=changes), device="cpu")
    print(f"read {len(probe._data.train_images)} images in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    raw, standardized = _pixels(probe, standardize=False), _pixels(probe, standardize=True)
    print(f"k-NN on raw pixels: {raw:.1%}; with each channel standardised: {standardized:.1%}", flush=True)
    epochs = arguments.epochs or _epochs_within(probe, 60 * arguments.minutes, began)
    spec = _spec(data, epochs=epochs, changes=changes)
    points: list[tuple[int, float, dict[str, float]]] = []

    def report(step: int, epoch: float, values: Mapping[str, float]) -> None:
        points.append((step, epoch, dict(values)))
        if "knn_top1" in values:
            minutes = (time.perf_counter() - began) / 60
            print(f"epoch {epoch:.0f} of {epochs}, {minutes:.1f} min: k-NN {values['knn_top1']:.1%}", flush=True)

    trainer = Trainer(spec, device="cpu", report=report)
    last = trainer.fit()
    minutes = (time.perf_counter() - began) / 60
    gain, margin = (100 * (last["knn_top1"] - pixels) for pixels in (raw, standardized))
    print(
        f"k-NN by R: {last['knn_top1']:.1%}, in {minutes:.1f} min: {gain:+.1f} points over raw pixels (wanted: +20), "
        f"{margin:+.1f} over standardised ones"
    )
    results = {
        "machine": machine,
        "minutes": minutes,
        "knn_raw_pixels": raw,
        "knn_standardized_pixels": standardized,
        "knn_trained": last["knn_top1"],
        "last": last,
        "spec": spec.model_dump(mode="json", exclude_defaults=True, exclude={"data": {"path"}}),
        "series": _series(points),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "learning.json").write_text(json.dumps(results, indent=1) + "\n")
    _plot(results, arguments.out / "learning.png")
    print(f"wrote {arguments.out / 'learning.json'} and learning.png")


def _spec(data: dict[str, Any], *, epochs: int, changes: dict[str, Any]) -> ExperimentSpec:
    """A small network and a short schedule: what two cores can train in twenty minutes."""
    document = {
        "name": "learning",
        "data": {**data, "augmentation": {**AUGMENTATION, "blur": 0.0, "solarize": 0.0}},  # as SimCLR on CIFAR-10
        "model": {"backbone": "conv_small", "width": 32, "projector": {"layers": 2, "hidden": 1024, "out": 512}},
        "objective": {"weighting": {"policy": "adaptive"}},
        "training": {
            "epochs": epochs,
            "batch_size": 256,
            # Ten epochs are too few for LARS, whose first hundred steps hardly move.
            "optimizer": "adamw",
            "lr": 0.003,
            "weight_decay": 0.01,
            "warmup_epochs": 1 if epochs > 1 else 0,
        },
        "evaluation": {"every_epochs": 4},
    }
    return validate_spec(document).with_params(changes)


def _epochs_within(trainer: Trainer, seconds: float, began: float) -> int:
    trainer.train_steps(2)
    before = time.perf_counter()
    steps = 20
    trainer.train_steps(steps)
    epoch_s = (time.perf_counter() - before) / steps * trainer.steps_per_epoch
    left = seconds - (time.perf_counter() - began)
    epochs = max(1, int(left * TRAINING_SHARE / epoch_s))
    print(f"an epoch takes {epoch_s:.0f} s: {epochs} epochs")
    return epochs


def _pixels(trainer: Trainer, *, standardize: bool) -> float:
    """The same classifier on the pixels themselves, as they are or with each channel's mean and scale taken out."""
    data, settings = trainer.data, trainer.spec.evaluation
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))

    def flat(images: Images) -> Tensor:
        x = images[torch.arange(len(images))].float() / 255
        return ((x - mean) / std if standardize else x).flatten(1)

    return knn_accuracy(
        flat(data.train_images),
        data.train_labels,
        flat(data.test_images),
        data.test_labels,
        k=settings.knn_k,
        temperature=settings.knn_temperature,
    )


def _series(points: list[tuple[int, float, dict[str, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Epoch and value of every metric."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _, epoch, values in points:
        for name, value in values.items():
            series[name].append((round(epoch, 4), value))
    return dict(series)


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for axis, (title, names) in zip(axes.flat, PANELS.items(), strict=True):
        for name in names:
            if name in results["series"]:
                epochs, values = zip(*results["series"][name], strict=True)
                axis.plot(epochs, values, label=name, marker="o" if "top1" in name else None, linewidth=1)
        if title == "accuracy":
            axis.axhline(results["knn_raw_pixels"], linestyle="--", color="grey", label="raw pixels")
            axis.axhline(results["knn_standardized_pixels"], linestyle=":", color="grey", label="standardised pixels")
        axis.set_title(title)
        axis.set_xlabel("epoch")
        if len(axis.get_lines()) > 1:
            axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
