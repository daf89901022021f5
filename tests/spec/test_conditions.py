"""What a spec knows at submission is checked there: conditions between its parts, kinds, settings without effect."""

from collections.abc import Callable
from typing import Any

import pytest

from adadim_core.spec import Problem, parse_spec, unintended, validate_spec
from adadim_core.spec.backbones import BACKBONES
from adadim_core.spec.datasets import DATASETS

Problems = Callable[..., list[Problem]]
GRID = "search: {algorithm: grid, space: {"


@pytest.mark.parametrize("backbone", ["vit_tiny", "vit_small"])
@pytest.mark.parametrize("side", [29, 33, 37, 41, 58, 62, 74])
def test_a_vit_is_refused_for_sides_that_it_cannot_cut(problems: Problems, backbone: str, side: int) -> None:
    (found,) = problems(f"{{name: a, model: {{backbone: {backbone}}}, data: {{image_size: {side}}}}}")
    assert f"images of {side} pixels cannot be cut into 4 to" in found.message
    assert "set data.image_size to a multiple of" in found.message


def test_a_swept_side_is_checked_for_every_trial(problems: Problems) -> None:
    (found,) = problems(f"{{name: a, model: {{backbone: vit_tiny}}, {GRID}data.image_size: {{choice: [8, 37]}}}}}}}}")
    assert found.message.startswith("trial 1: data.image_size = 37 is not allowed: images of 37 pixels")


def test_the_sides_of_built_in_sets_are_known() -> None:
    for dataset in DATASETS.values():
        path = "{path: /data, " if dataset.needs_path else "{"
        text = f"{{name: a, data: {path}dataset: {dataset.name}}}, model: {{backbone: vit_tiny}}}}"
        assert parse_spec(text).data.dataset == dataset.name
        if dataset.side is not None:
            BACKBONES["vit_tiny"].check_side(dataset.side)


def test_images_of_ones_own_have_the_side_they_have() -> None:
    text = "{name: a, model: {backbone: vit_tiny}, data: {image_size: 37}}"
    assert parse_spec(text, own_data=True).data.image_size == 37


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ("training: {batch_size: 8, accumulate: 2}, resources: {workers: 4}", "the 2 images of a process"),
        ("training: {batch_size: 4}, resources: {workers: 4}", "leaves each process 1 image; it needs at least two"),
        ("training: {batch_size: 9}, resources: {workers: 2}", "(resources.workers: 2)"),
        ("resources: {workers: 2, gpus_per_worker: 0.5}", "share a GPU, which NCCL does not allow"),
        ("training: {batch_size: 1439}", "larger than the 1438 training images of digits"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(problems: Problems, sections: str, words: str) -> None:
    (found,) = problems(f"{{name: a, {sections}}}")
    assert words in found.message


def test_a_share_of_a_gpu_is_for_trials_of_one_process() -> None:
    for text in ("gpus_per_worker: 0.5", "workers: 2, gpus_per_worker: 2.0", "workers: 2, gpus_per_worker: 0.0"):
        parse_spec(f"{{name: a, resources: {{{text}}}}}")


@pytest.mark.parametrize(
    ("space", "pointer", "words"),
    [
        (
            "objective.dimension_loss.name: {choice: [vicreg, barlow_twins]}",
            "objective.dimension_loss.name",
            "sweep the whole section: objective.dimension_loss: {choice: [{name: vicreg}, {name: barlow_twins}]}",
        ),
        (
            "objective.weighting.policy: {choice: [fixed, adaptive]}",
            "objective.weighting.policy",
            "sweep the whole section: objective.weighting: {choice: [{policy: fixed}, {policy: adaptive}]}",
        ),
        ("training: {lr: {choice: [0.1, 0.3]}}", "training", "write training.lr: {choice: [0.1, 0.3]}"),
        (
            "objective: {mutual_information: {gamma: {uniform: [0, 1]}}}",
            "objective",
            "write objective.mutual_information.gamma: {uniform: [0, 1]}",
        ),
        ("lr: {choice: [0.1, 0.3]}", "lr", "did you mean 'training.lr'?"),
        ("gamma: {choice: [0.1, 0.3]}", "gamma", "did you mean 'objective.mutual_information.gamma'?"),
        ("training.lr: [0.1, 0.3]", "training.lr", "should be one of {uniform: [low, high]}"),
        ("training.lr: {values: [0.1, 0.3]}", "training.lr", "should be one of {uniform: [low, high]}"),
    ],
)
def test_a_wrong_search_path_is_told_what_to_write(problems: Problems, space: str, pointer: str, words: str) -> None:
    (found,) = problems(f"{{name: a, {GRID}{space}}}}}}}")
    assert found.pointer == f"/search/space/{pointer}"
    assert words in found.message


def test_kinds_with_the_same_fields_may_be_swept_by_name() -> None:
    weighting = "objective: {weighting: {policy: linear, end: 0.5}}"
    spec = parse_spec(f"{{name: a, {weighting}, {GRID}objective.weighting.policy: {{choice: [linear, cosine]}}}}}}}}")
    assert spec.search is not None


# -- settings that cannot be meant ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "pointer"),
    [
        ({"evaluation": {"knn_k": 1439}}, "/evaluation/knn_k"),
        ({"objective": {"mutual_information": {"start_epoch": 100}}}, "/objective/mutual_information/start_epoch"),
        ({"training": {"collapse": {"share": 0.0, "stop": True}}}, "/training/collapse/stop"),
        ({"stop": {"plateau": {"patience": 100}}}, "/stop/plateau/patience"),
        (
            {
                "search": {
                    "trials": 2,
                    "scheduler": {"name": "pbt", "every_epochs": 100},
                    "space": {"training.lr": {"uniform": [0.1, 0.2]}},
                }
            },
            "/search/scheduler/every_epochs",
        ),
        *(
            (
                {
                    "search": {
                        "trials": 2,
                        "metric": metric,
                        "mode": mode,
                        "space": {"training.lr": {"uniform": [0.1, 0.2]}},
                    }
                },
                "/search/mode",
            )
            for metric, mode in (("loss", "max"), ("knn_top1", "min"))
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(sections: dict[str, Any], pointer: str) -> None:
    (found,) = unintended(validate_spec({"name": "a", **sections}))
    assert found.pointer == pointer


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"evaluation": {"knn_k": 1438}},
        {"search": {"trials": 2, "metric": "h_r", "mode": "min", "space": {"training.lr": {"uniform": [0.1, 0.2]}}}},
        {"objective": {"mutual_information": {"start_epoch": 100, "gamma": 0.0}}},
        {"data": {"dataset": "image_folder", "path": "/images"}, "evaluation": {"knn_k": 10_000}},
    ],
)
def test_a_setting_that_can_be_meant_is_not(sections: dict[str, Any]) -> None:
    assert unintended(validate_spec({"name": "a", **sections})) == []


def test_in_a_sweep_a_setting_must_matter_to_one_trial() -> None:
    def found(*epochs: int, algorithm: str = "grid") -> list[str]:
        search: dict[str, Any] = {"algorithm": algorithm, "space": {"training.epochs": {"choice": list(epochs)}}}
        trials = {} if algorithm == "grid" else {"trials": 2}
        term = {"mutual_information": {"start_epoch": 20}}
        spec = validate_spec({"name": "a", "objective": term, "search": search | trials})
        return [problem.pointer for problem in unintended(spec)]

    assert found(10, 30) == []
    assert found(10, 20) == ["/objective/mutual_information/start_epoch"]
    assert found(10, 30, algorithm="tpe") == []


def test_a_stored_spec_of_before_is_still_read() -> None:
    spec = validate_spec({"name": "a", "evaluation": {"knn_k": 10_000}})
    assert unintended(spec)
    assert validate_spec(spec.model_dump(mode="json")) == spec


def test_seeds_that_go_beyond_the_largest_are_refused(problems: Problems) -> None:
    def text(seeds: int) -> str:
        return f"{{name: a, training: {{seed: 2147483645}}, {GRID}training.lr: {{choice: [1.0]}}}}, seeds: {seeds}}}}}"

    assert parse_spec(text(3)).search is not None
    (found,) = problems(text(4))
    assert "trial 3: " in found.message
    assert "training.seed = 2147483648 is not allowed" in found.message
