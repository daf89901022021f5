"""What a trial does about its data: told, ranked by what can be measured, and the same in every attempt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_harness import tiny_spec

from adadim_core.spec import TrialPlan, validate_spec
from workers.context import RunContext
from workers.errors import RunError
from workers.reporting.attempt import Attempt
from workers.reporting.progress import Progress
from workers.storage.claim import set_apart
from workers.storage.data_record import NewData, read_all_data
from workers.storage.folder import Storage
from workers.storage.points import merged
from workers.storage.results import refusal, write_results
from workers.storage.trial_result import TrialResult
from workers.trial.actor import TrialActor

SEARCH = {"algorithm": "grid", "metric": "knn_top1", "space": {"training.lr": {"choice": [0.01, 0.02]}}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set.npz")


def write_set(path: Path, *, images: int = 300, seed: int = 0, **arrays: Any) -> Path:
    rng = np.random.RandomState(seed)
    pixels = rng.randint(0, 256, (images + 20, 8, 8), dtype=np.uint8)
    labels = rng.randint(0, 3, images + 20)
    parts = {"train_images": pixels[:images], "train_labels": labels[:images]}
    parts |= {"test_images": pixels[images:], "test_labels": labels[images:]} | arrays
    np.savez(path, **{key: value for key, value in parts.items() if value is not None})
    return path


def context(tmp_path: Path, data: Path, run: str = "run-1", **sections: Any) -> RunContext:
    sections.setdefault("training", {"epochs": 3})
    spec = tiny_spec(data={"dataset": "npz", "path": str(data)}, **sections)
    return RunContext(validate_spec(spec), str(tmp_path / "storage"), run, None)


def actor(of: RunContext, number: int = 0, params: dict[str, Any] | None = None) -> TrialActor:
    made = TrialActor.__new__(TrialActor)
    made.config = {"trial": number, "params": params or {}}
    made.setup(made.config, of)
    return made


def test_what_was_read_begins_the_log_and_stands_in_results_and_model_card(tmp_path: Path, data: Path) -> None:
    of = context(tmp_path, data, training={"epochs": 1})
    last = actor(of).step()
    assert last["done"]
    told = of.storage.trial_log(0).read_text()
    assert "training images: 300 (train_images)" in told
    (facts,) = read_all_data(of.storage).values()
    assert facts["fingerprint"] in (of.storage.trial(0) / "README.md").read_text()
    write_results(of.storage, of.spec, [TrialResult(0, {}, "succeeded", 1, 1, {"h_r": 1.0})])
    assert json.loads(of.storage.results.read_text())["data"] == [facts]


def test_a_training_does_not_go_on_with_images_that_changed(tmp_path: Path, data: Path) -> None:
    of = context(tmp_path, data, resources={"max_failures": 3})
    first = actor(of)
    first.step()
    first.save()
    first.cleanup()
    before = merged(of.storage, 0)
    write_set(data, seed=1)  # as many images, of the same names
    ended = actor(context(tmp_path, data, "run-2")).step()
    assert ended["done"]
    error = ended["error"].splitlines()[0]
    assert error.startswith("DataChangedError: the data changed since this training began: then 300 images")
    assert "adadim retry --restart" in error
    assert merged(of.storage, 0) == before, "no point of another training stands in its curves"
    failed = TrialResult(0, {}, "failed", error=ended["error"], refused=ended["refused"])
    assert refusal([TrialResult(1, {}, "failed", error="DataChangedError: of another kind"), failed]) == ended["error"]
    write_set(data, seed=0)  # the data is put back
    again = actor(context(tmp_path, data, "run-3"))
    assert again.step()["epoch"] == 2
    again.cleanup()


def test_trials_that_begin_later_train_on_the_same_images_too(tmp_path: Path, data: Path) -> None:
    of = context(tmp_path, data, search={**SEARCH, "metric": "h_r"}, training={"epochs": 1})
    assert "error" not in actor(of, 0, {"training.lr": 0.01}).step()
    write_set(data, images=310)
    ended = actor(of, 1, {"training.lr": 0.02}).step()
    assert "then 300 training images" in ended["error"]
    assert "now 310" in ended["error"]


def test_sweeps_over_data_sets_keep_them_apart(tmp_path: Path, data: Path) -> None:
    other = write_set(tmp_path / "other.npz", seed=1)
    space = {"data.path": {"choice": [str(data), str(other)]}}
    of = context(tmp_path, data, search={"algorithm": "grid", "metric": "h_r", "space": space}, training={"epochs": 1})
    for number, path in enumerate((data, other)):
        assert "error" not in actor(of, number, {"data.path": str(path)}).step()
    assert {facts["path"] for facts in read_all_data(of.storage).values()} == {str(data), str(other)}


@pytest.mark.parametrize(
    ("labels", "metric", "reason"),
    [
        ({"train_labels": None}, "knn_top1", "the training images have no labels; take h_r"),
        ({"train_labels": np.zeros(300, int)}, "knn_top1", "all training images with a label are of one class; take"),
        (
            {"train_labels": np.ones((300, 4), int) * [0, 1, 1, 0], "test_labels": np.ones((20, 4), int)},
            "knn_top1",
            "no label is on some of the images only",
        ),
        (
            {
                "train_labels": np.random.RandomState(0).randint(0, 2, (300, 4)),
                "test_labels": np.random.RandomState(1).randint(0, 2, (20, 4)),
            },
            "knn_top1",
            "its images have several; take knn_map, h_r",
        ),
        ({}, "knn_map", "its images have one; take knn_top1, h_r"),
    ],
    ids=["none", "one class", "several alike", "several", "one"],
)
def test_a_metric_that_the_labels_do_not_allow_fails_the_trial_before_it_trains(
    tmp_path: Path, labels: dict[str, Any], metric: str, reason: str
) -> None:
    data = write_set(tmp_path / "set.npz", **labels)
    of = context(tmp_path, data, search={**SEARCH, "metric": metric})
    ended = actor(of, 0, {"training.lr": 0.01}).step()
    assert ended["error"].startswith(f"DataError: search.metric {metric} cannot be measured on these images: ")
    assert reason in ended["error"]
    assert not of.storage.checkpointed()


def test_without_a_search_images_without_labels_train(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set.npz", train_labels=None, test_labels=None)
    of = context(tmp_path, data, training={"epochs": 1})
    last = actor(of).step()
    assert last["done"]
    assert "error" not in last
    assert "k-NN and probes are left out: the training images have no labels" in of.storage.trial_log(0).read_text()


def test_the_driver_tells_a_data_set_once(tmp_path: Path, data: Path) -> None:
    of = context(tmp_path, data, training={"epochs": 1})
    actor(of).step()
    told: list[str] = []
    attempt = Attempt(None, on_stop=lambda reason, at_once=False: None)
    attempt.tell_data = lambda name, facts: told.append(facts["fingerprint"])  # type: ignore[method-assign]
    progress = Progress(attempt, [TrialPlan(0, {}), TrialPlan(1, {})], NewData(of.spec, of.storage))
    progress.update(TrialResult(0, {}, "pending", 0, 1))
    assert not told, "what an earlier attempt read is told once a trial reads it again"
    for number in (0, 1, 0):
        progress.update(TrialResult(number, {}, "running", 1, 1, {"h_r": 1.0}))
    (facts,) = read_all_data(of.storage).values()
    assert told == [facts["fingerprint"]]


def test_the_driver_finds_the_record_of_a_relative_path(tmp_path: Path, data: Path) -> None:
    spec = validate_spec(tiny_spec(data={"dataset": "npz", "path": data.name}, training={"epochs": 1}))
    of = RunContext(spec, str(tmp_path / "storage"), "run-1", None, tmp_path)
    assert actor(of).step()["done"]
    assert len(list(NewData(spec, of.storage).of_trial({}))) == 1


def test_a_restart_sets_apart_what_was_there(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for round_ in (1, 2):
        storage.write_json(storage.result(0), {"round": round_})
        (tmp_path / "logs").mkdir(exist_ok=True)
        set_apart(storage)
        assert json.loads((tmp_path / f"earlier-{round_}/trials/0000/result.json").read_text()) == {"round": round_}
        assert not storage.result(0).exists()
        assert (tmp_path / "logs").exists()
    set_apart(storage)
    assert not (tmp_path / "earlier-3").exists(), "there was nothing to set apart"


def test_a_restart_in_an_object_store_is_refused(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.store = object()  # type: ignore[assignment]
    with pytest.raises(RunError, match="--restart needs a folder"):
        set_apart(storage)
