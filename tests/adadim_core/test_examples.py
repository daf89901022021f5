"""The examples for others' data, each trained on a small set in the layout that it asks for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_sets import image_files, medmnist_arrays, pixels, write_files

from adadim_core import Trainer
from adadim_core.data import stl10
from adadim_core.spec import parse_spec, validate_spec
from adadim_core.spec.plan import plan_trials

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def write_image_folder(place: Path) -> None:
    write_files(place / "images", image_files())


def write_medmnist(place: Path) -> None:
    np.savez(place / "pathmnist.npz", **medmnist_arrays())


def write_stl10(place: Path) -> None:
    (place / "stl10_binary").mkdir()
    for part, count in (("train", 20), ("test", 10)):
        stored = pixels(count, 96).transpose(0, 3, 2, 1)  # its files have columns first
        (place / "stl10_binary" / f"{part}_X.bin").write_bytes(stored.tobytes())
        (place / "stl10_binary" / f"{part}_y.bin").write_bytes((1 + np.arange(count) % 10).astype(np.uint8).tobytes())
    (place / "stl10_binary" / "unlabeled_X.bin").write_bytes(pixels(30, 96).tobytes())


def write_npz(place: Path) -> None:
    arrays: dict[str, Any] = {"train_images": pixels(30, 40), "train_labels": np.arange(30) % 3}
    np.savez(place / "mine.npz", **arrays, test_images=pixels(9, 40, seed=1), test_labels=np.arange(9) % 3)


WRITERS = {
    "image-folder": write_image_folder,
    "medmnist": write_medmnist,
    "stl10": write_stl10,
    "npz": write_npz,
}


def test_every_example_for_data_that_must_be_had_is_tried():
    needing = {path.stem for path in EXAMPLES if parse_spec(path.read_text()).data.path is not None}
    assert needing == WRITERS.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_an_example_plans_seeds_and_trains_on_its_kind_of_data(tmp_path, monkeypatch, name):
    for part, count in (("TRAIN", 20), ("TEST", 10), ("UNLABELLED", 30)):
        monkeypatch.setattr(stl10, f"{part}_IMAGES", count)
    WRITERS[name](tmp_path)
    document = yaml.safe_load((EXAMPLES[0].parent / f"{name}.yaml").read_text())
    spec = validate_spec(document)
    assert spec.search is not None
    assert len({plan.params.get("training.seed", 0) for plan in plan_trials(spec)}) > 1
    path = next(
        tmp_path / wanted for wanted in (document["data"]["path"], "stl10_binary") if (tmp_path / wanted).exists()
    )
    # The network and the length are all that is smaller than in the example.
    small = {
        "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 1, "out": 16}},
        "training": {"epochs": 2, "batch_size": 8, "optimizer": "adamw", "lr": 0.001, "precision": "float32"},
        "data": {**document["data"], "path": str(path), "image_size": 16},
    }
    trial = validate_spec({**document, **small}).with_params(
        {path: value for path, value in plan_trials(spec)[0].params.items() if not path.startswith("training.")}
    )
    metrics = Trainer(trial, device="cpu").fit()
    assert {"h_r", "i_rz", document["search"]["metric"]} <= metrics.keys()
