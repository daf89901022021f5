"""What a relative data.path means, and what of the data a driver sees is missing before it starts Ray."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worker_harness import tiny_spec

from adadim_core.spec import ExperimentSpec, TrialPlan, validate_spec
from workers.__main__ import main
from workers.context import RunContext
from workers.data_paths import absolute, folder_of, paths_of, places, second_path, unseen


def folder_spec(path: str, **sections: object) -> ExperimentSpec:
    return validate_spec(tiny_spec(data={"dataset": "image_folder", "path": path}, **sections))


def test_a_relative_path_is_that_of_the_spec_s_folder_else_of_the_caller_s(tmp_path: Path) -> None:
    beside, caller = tmp_path / "specs", tmp_path / "caller"
    (beside / "there").mkdir(parents=True)
    (caller / "here").mkdir(parents=True)
    assert folder_of(["there"], [beside, caller]) == beside
    assert folder_of(["here"], [beside, caller]) == caller
    assert folder_of(["nowhere"], [beside, caller]) == beside
    assert places(["there", "/data", "~/data"], beside) == [f"{beside}/there", "/data", "~/data"]
    assert absolute(folder_spec("there"), beside).data.path == f"{beside}/there"
    assert absolute(folder_spec("/data"), beside).data.path == "/data"
    assert absolute(validate_spec(tiny_spec()), beside).data.path is None


def test_a_second_set_is_found_like_the_first(tmp_path: Path) -> None:
    transfer = {"dataset": "image_folder", "path": "birds"}
    spec = folder_spec("cats", evaluation={"transfer": transfer})
    found = absolute(spec, tmp_path).evaluation.transfer
    assert found is not None
    assert found.path == f"{tmp_path}/birds"
    assert second_path(spec) == ["birds"]
    assert second_path(folder_spec("cats")) == []
    (problem,) = unseen(places(second_path(spec), tmp_path), "evaluation.transfer.path")
    assert problem.startswith(f"evaluation.transfer.path: there is no {tmp_path}/birds")


def test_where_there_are_data_roots_it_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("ADADIM_DATA_ROOTS", str(tmp_path))
    assert absolute(folder_spec("set"), Path("/elsewhere")).data.path == "set"
    assert unseen(places(["set"], Path("/elsewhere"))) == []
    (problem,) = unseen(["/etc"])
    assert problem.startswith("data.path: /etc leads out of the data roots")


def test_every_path_of_a_sweep_is_looked_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    spec = folder_spec("a")
    plans = [TrialPlan(n, {"data.path": path, "training.seed": n}) for n, path in enumerate(["a", "b", "b", "c"])]
    paths = paths_of(spec, [*plans, TrialPlan(4, {})])
    assert paths == ["a", "b", "c"]
    assert paths_of(spec, [*plans, TrialPlan(5, {"data": {"dataset": "digits"}})]) == [], "not every trial needs one"
    assert [problem.partition(" (")[0] for problem in unseen(places(paths, tmp_path))] == [
        f"data.path: there is no {tmp_path / name}" for name in ("b", "c")
    ]


def test_a_trial_reads_what_the_user_meant(tmp_path: Path) -> None:
    context = RunContext(folder_spec("set"), str(tmp_path), "run-1", None, tmp_path / "specs")
    assert context.trial_spec(TrialPlan(0, {})).data.path == str(tmp_path / "specs" / "set")
    varied = context.trial_spec(TrialPlan(0, {"data.path": "other"}))
    assert varied.data.path == str(tmp_path / "specs" / "other")
    assert context.spec.data.path == "set", "what is stored is what the user wrote"


def test_missing_data_ends_a_run_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("workers.interruption.Interruption.install", lambda _: None)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("it started Ray"))
    search = {"algorithm": "grid", "space": {"data.path": {"choice": ["cats", "dogs"]}}}
    spec = tiny_spec(data={"dataset": "image_folder", "path": "cats"}, search=search)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main([str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert f"there is no {tmp_path}/cats" in line
    assert f"there is no {tmp_path}/dogs" in line


@pytest.mark.parametrize(
    ("made", "data", "words"),
    [
        ("empty", {"dataset": "image_folder"}, "has no folder 'train'"),
        ("others", {"dataset": "image_folder"}, "holds no image"),
        ("sizes", {"dataset": "image_folder"}, "different sizes, 8 x 8 to 9 x 9; set data.image_size"),
        ("file", {"dataset": "cifar10"}, "data set cifar10: "),
        ("file", {"dataset": "npz"}, "data set npz: "),
        ("arrays.npz", {"dataset": "npz"}, "lacks train_images; it has x"),
    ],
)
def test_data_that_no_trial_could_read_ends_a_run_before_ray_starts(
    made: str, data: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name, side in (("a.png", 8), ("b.png", 9)):
        (tmp_path / "sizes" / "train" / "cat").mkdir(parents=True, exist_ok=True)
        Image.new("L", (side, side)).save(tmp_path / "sizes" / "train" / "cat" / name)
    (tmp_path / "others" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "others" / "train" / "cat" / "notes.txt").write_text("text")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("workers.interruption.Interruption.install", lambda _: None)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("it started Ray"))
    (tmp_path / "spec.json").write_text(json.dumps(tiny_spec(data={**data, "path": made})))
    assert main([str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: data: data set ")
    assert words in line


def test_a_driver_looks_without_torch() -> None:
    code = "import sys, workers.data_paths, workers.run, workers.trial.failures; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
