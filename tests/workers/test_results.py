"""Results, storage and the order of a run, without Ray."""

import errno
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worker_harness import FakeService, tiny_spec

import workers.run
from adadim_core.spec import ExperimentSpec, TrialPlan, validate_spec
from adadim_core.spec.report import Outcome
from workers.__main__ import main
from workers.context import RunContext
from workers.errors import RunError
from workers.interruption import Interrupted, Interruption
from workers.reporting.attempt import Attempt
from workers.reporting.progress import Progress
from workers.run import run_experiment
from workers.storage.claim import held, prepare
from workers.storage.folder import Storage, read_json
from workers.storage.opening import open_storage
from workers.storage.ranking import best
from workers.storage.results import commonest_error, print_results, run_succeeded, write_results
from workers.storage.trial_result import TrialResult, read_result, write_result
from workers.sweep.budget import Budget

Train = Callable[..., None]


@pytest.fixture
def spec() -> ExperimentSpec:
    space = {"training.lr": {"choice": [0.1, 0.01, 0.001]}}
    return validate_spec(tiny_spec(search={"algorithm": "grid", "space": space}))


def result(number: int, knn: float, state: Any = "succeeded") -> TrialResult:
    return TrialResult(number, {}, state, metrics={"knn_top1": knn})


def test_the_best_trial_finished_and_has_a_number(spec: ExperimentSpec) -> None:
    nan = float("nan")
    results = [result(0, nan), result(1, 0.9, "interrupted"), result(2, 0.5), result(3, 0.7), result(4, 0.7)]
    winner = best(spec, results)
    assert winner is not None
    assert winner.number == 3
    assert best(spec, [result(0, nan)]) is None


def test_a_result_file_keeps_what_is_not_finite(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_result(storage, TrialResult(2, {"training.lr": 0.1}, "succeeded", 5, 5, {"loss": float("inf")}))
    stored = read_result(storage, 2)
    assert stored is not None
    assert stored.metrics == {"loss": float("inf")}
    assert "Infinity" in storage.result(2).read_text()


def test_a_result_cut_off_is_no_result(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_result(storage, result(0, 0.5))
    storage.result(0).write_text(storage.result(0).read_text()[:20])
    assert read_result(storage, 0) is None


def test_the_table_shows_what_varied(spec: ExperimentSpec, capsys: pytest.CaptureFixture[str]) -> None:
    print_results(spec, [TrialResult(0, {"training.lr": 0.01}, "succeeded", 2, 2, {"h_r": 1.5, "knn_top1": 0.9})])
    shown = capsys.readouterr().out
    for word in ("lr", "0.01", "adaptive", "H(R)", "1.5", "k-NN", "0.9", "No statement"):
        assert word in shown


def test_the_results_hold_the_answer_that_is_printed(
    spec: ExperimentSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        TrialResult(5 * k + seed, {"training.lr": lr, "training.seed": seed}, "succeeded", 2, 2, {"knn_top1": value})
        for k, (lr, value) in enumerate([(0.1, 0.5), (0.01, 0.9), (0.001, 0.2)])
        for seed, value in enumerate([value, value + 0.02, value + 0.01])
    ]
    write_results(Storage(tmp_path), spec, results)
    stored = json.loads((tmp_path / "results.json").read_text())["answer"]
    assert stored["verdict"] == "best"
    assert stored["sentence"].startswith("adaptive, lr=0.01 is best: 0.910 ± ")
    print_results(spec, results)
    shown = capsys.readouterr().out
    assert stored["sentence"] in shown
    assert "0.910 ± " in shown


def test_what_looks_like_markup_in_a_label_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    space = {"data.path": {"choice": ["/data/[red]a", "/data/b[/b]"]}}
    document = tiny_spec(data={"dataset": "image_folder", "path": "x"}, search={"algorithm": "grid", "space": space})
    paths = validate_spec(document)
    print_results(
        paths, [TrialResult(k, {"data.path": p}, "failed") for k, p in enumerate(space["data.path"]["choice"])]
    )
    shown = capsys.readouterr().out
    assert "/data/[red]a" in shown
    assert "/data/b[/b]" in shown


def test_the_commonest_reason_comes_first_whatever_numbers_are_in_it() -> None:
    errors = [f"Diverged: the loss is nan at step {step}\nmore" for step in (3, 17, 120)]
    errors[1:1] = ["FileNotFoundError: gone"] * 2
    summary = commonest_error([TrialResult(k, {}, "failed", error=error) for k, error in enumerate(errors)])
    assert summary.startswith(
        "3 of 5 failed trials: Diverged: the loss is nan at step 3\n2 of 5 failed trials: FileNotFoundError: gone\n\n"
    )
    assert summary.endswith("at step 3\nmore")


def test_a_run_whose_trials_measured_something_did_not_fail() -> None:
    collapsed = TrialResult(0, {}, "stopped", epoch=0, metrics={"h_r": 0.1}, reason="collapsed at step 2")
    never_began = TrialResult(1, {}, "stopped", reason="the time budget is used up")
    assert run_succeeded([never_began, collapsed])
    assert not run_succeeded([never_began, TrialResult(2, {}, "failed", metrics={"h_r": 0.1})])


def test_a_folder_of_another_experiment_is_left_alone(spec: ExperimentSpec, tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    prepare(storage, spec)
    prepare(storage, validate_spec(spec.model_dump(mode="json") | {"retries": 7}))
    with pytest.raises(RunError, match="another spec"):
        prepare(storage, validate_spec(tiny_spec(training={"epochs": 3})))
    stored = json.loads((tmp_path / "spec.json").read_text())
    stored["resources"]["gpus_per_worker"] = 1.5  # no earlier version's resources matter
    (tmp_path / "spec.json").write_text(json.dumps(stored))
    prepare(storage, spec)


def test_a_folder_takes_the_same_spec_with_more_seeds_or_configurations(tmp_path: Path) -> None:
    """R02: what is there is not trained again."""

    def sweep(**search: Any) -> ExperimentSpec:
        space = {"training.lr": {"uniform": [0.01, 0.1]}}
        return validate_spec(tiny_spec(search={"algorithm": "random", "space": space} | search))

    storage = Storage(tmp_path)
    for search in ({"trials": 3}, {"trials": 5}, {"trials": 5, "seeds": 2}, {"trials": 5, "seeds": 3}):
        prepare(storage, sweep(**search))
    for search in ({"trials": 5, "seeds": 2}, {"trials": 6, "seeds": 3}, {"trials": 5, "seeds": 4, "mode": "min"}):
        with pytest.raises(RunError, match="another spec"):
            prepare(storage, sweep(**search))
    assert (read_json(tmp_path / "spec.json") or {})["search"]["seeds"] == 3


def test_the_trials_of_a_sweep_that_has_grown_say_the_seed_they_trained_with(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path)
    for number, lr in enumerate((0.1, 0.01, 0.001)):
        write_result(storage, TrialResult(number, {"training.lr": lr}, "succeeded", 2, 2, {"knn_top1": 0.5}))
    document = spec.model_dump(mode="json")
    grown = validate_spec({**document, "search": {**document["search"], "seeds": 2}})
    ran: list[int] = []
    monkeypatch.setattr(workers.run, "_train", lambda _, plans, *__: ran.extend(plan.number for plan in plans))
    run_experiment(grown, storage, None, Attempt(None, lambda *_, **__: None), Interruption())
    assert ran == [3, 4, 5]
    trials = (read_json(storage.results) or {})["trials"]
    assert [trial["params"]["training.seed"] for trial in trials] == [0, 0, 0, 1, 1, 1]


def test_an_experiment_of_an_earlier_version_goes_on(spec: ExperimentSpec, tmp_path: Path) -> None:
    """Its stored spec lacks what came with a default since."""
    storage = Storage(tmp_path)
    prepare(storage, spec)
    stored = json.loads((tmp_path / "spec.json").read_text())
    assert stored["training"].pop("clip_norm", "absent") is None
    (tmp_path / "spec.json").write_text(json.dumps(stored))
    prepare(storage, spec)
    stored["training"]["gone_since"] = 1
    (tmp_path / "spec.json").write_text(json.dumps(stored))
    with pytest.raises(RunError, match=r"holds results of another spec, one that is not valid any more .*gone_since"):
        prepare(storage, spec)


def test_an_id_that_was_cut_off_is_none(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    (tmp_path / "id").touch()
    made = storage.experiment_id()
    assert len(made) == 32
    assert storage.experiment_id() == made


def test_the_checkpoint_before_one_that_was_never_finished_counts(tmp_path: Path) -> None:
    """A process was killed between the two renames that put a new one in its place."""
    storage = Storage(tmp_path)
    for number, name in enumerate(("checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged.pt")):
        storage.trial(number).mkdir(parents=True)
        (storage.trial(number) / name).touch()
    assert storage.checkpointed() == {0, 1}


def test_a_folder_that_fails_for_a_while_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are called within Tune's own loop, where whatever is raised is the end."""
    storage = Storage(tmp_path)
    budget = Budget(10, storage)
    storage.checkpoint(0).parent.mkdir(parents=True)
    storage.checkpoint(0).touch()

    def stale(*_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stale)
        patch.setattr(Path, "unlink", stale)
        budget.store()
        budget.store()
        storage.remove_checkpoint(0)
    assert caplog.text.count("cannot write elapsed.json: [Errno 116] Stale file handle") == 1
    assert "cannot remove the checkpoint of trial 0" in caplog.text
    budget.store()
    assert read_json(storage.elapsed)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("hdfs://namenode/x", "hdfs:// is not known; name a folder that every node shares, s3:// or gs://"),
        ("s3://", "cannot use storage s3://"),
        ("gs://anonymous@b/x?no_such_setting=1", "cannot use storage gs://b/x: opening the storage failed: Unexpected"),
    ],
)
def test_a_place_that_cannot_hold_results_is_explained(location: str, message: str) -> None:
    with pytest.raises(RunError, match=re.escape(message)):
        open_storage(location)


def test_a_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with held(storage), pytest.raises(RunError, match="another run is at work in"), held(storage):
        pass
    with held(storage):
        pass


def test_each_run_gets_a_place_of_its_own_under_the_one_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def note(spec: ExperimentSpec, storage: Storage, *_: Any) -> Outcome:
        places.append(storage.root)
        return Outcome(state="succeeded")

    monkeypatch.setattr("workers.__main__.run_experiment", note)
    monkeypatch.setenv("S", "{name: a run}")
    monkeypatch.setenv("ADADIM_STORAGE", str(tmp_path / "all"))
    assert main(["env:S"]) == 0
    monkeypatch.setenv("ADADIM_RUN_STORAGE", str(tmp_path / "one"))
    assert main(["env:S"]) == 0
    assert main(["env:S", "--storage", str(tmp_path / "given")]) == 0
    assert places[0].parent == tmp_path / "all"
    assert places[0].name.startswith("a-run-")
    assert places[1:] == [tmp_path / "one", tmp_path / "given"]


def run_with(train: Train, spec: ExperimentSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(workers.run, "_train", train)
    attempt = Attempt(None, on_stop=Interruption().request)
    return run_experiment(spec, Storage(folder), None, attempt, Interruption())


def test_only_trials_without_a_result_are_run(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(Storage(tmp_path), TrialResult(1, {"training.lr": 0.01}, "succeeded", 2, 2, {"knn_top1": 0.9}))
    ran = []

    def train(context: RunContext, plans: list[TrialPlan], progress: Progress, *_: Any) -> None:
        for plan in plans:
            ran.append(plan.number)
            progress.update(TrialResult(plan.number, plan.params, "succeeded", 2, 2, {"knn_top1": 0.5}))

    outcome = run_with(train, spec, tmp_path, monkeypatch)
    assert ran == [0, 2]
    assert outcome.state == "succeeded"
    table = json.loads((tmp_path / "results.json").read_text())
    assert table["best"] == 1
    assert [trial["params"] for trial in table["trials"]] == [{"training.lr": lr} for lr in (0.1, 0.01, 0.001)]


def test_what_earlier_attempts_came_to_is_known_before_a_trial_goes_on(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    def train(context: RunContext, plans: list[TrialPlan], progress: Progress, *_: Any) -> None:
        progress.update(TrialResult(1, plans[1].params, "running", 1, 2, {"h_r": 1.5}))
        checkpoint = context.storage.checkpoint(1)
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        raise Interrupted

    for step in (train, interrupt):
        with pytest.raises(Interrupted):
            run_with(step, spec, tmp_path, monkeypatch)
    table = json.loads((tmp_path / "results.json").read_text())
    assert [(t["epoch"], t["epochs"], t["metrics"]) for t in table["trials"]] == [
        (0, 2, {}),
        (1, 2, {"h_r": 1.5}),
        (0, 2, {}),
    ]
    assert f"run it again with --storage {tmp_path}" in capsys.readouterr().out


def test_a_trial_that_left_nothing_is_not_ranked_by_what_it_once_showed(spec: ExperimentSpec, tmp_path: Path) -> None:
    """It failed before its first checkpoint, and the time was used up before it could begin again."""
    document = spec.model_dump(mode="json") | {"stop": {"minutes": 0.001}}
    storage = Storage(tmp_path)
    prepare(storage, spec)
    write_results(storage, spec, [TrialResult(0, {"training.lr": 0.1}, "failed", 1, 2, {"knn_top1": 0.9})])
    storage.elapsed.write_text(json.dumps({"seconds": 60.0}))
    attempt = Attempt(None, on_stop=Interruption().request)
    outcome = run_experiment(validate_spec(document), storage, None, attempt, Interruption())
    assert outcome.state == "failed"
    assert json.loads((tmp_path / "results.json").read_text())["best"] is None


def test_a_sweep_whose_every_trial_failed_is_failed_for_the_commonest_reason(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = ["ValueError: rare\n\nwhere", "OutOfMemoryError: often\n\nhere", "OutOfMemoryError: often\n\nthere"]

    def train(context: RunContext, plans: list[TrialPlan], progress: Progress, *_: Any) -> None:
        for plan in plans:
            progress.update(TrialResult(plan.number, plan.params, "failed", error=errors[plan.number]))

    outcome = run_with(train, spec, tmp_path, monkeypatch)
    assert outcome.state == "failed"
    assert outcome.error.splitlines()[:3] == [
        "every trial failed",
        "2 of 3 failed trials: OutOfMemoryError: often",
        "1 of 3 failed trials: ValueError: rare",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["/nowhere.yaml"], {}, "cannot read spec /nowhere.yaml: No such file"),
        (["env:NO_SUCH"], {}, "environment variable NO_SUCH is not set"),
        (["env:S"], {"S": "{name: x, epochs: 3}"}, "unknown field 'epochs'"),
        (["env:S"], {"S": "{name: x}", "ADADIM_SERVICE_URL": "http://x"}, "ADADIM_ATTEMPT_ID, ADADIM_ATTEMPT_CODE"),
        (["env:S", "--storage", "/proc/x"], {"S": "{name: x}"}, "cannot write to storage /proc/x"),
        (["env:S"], {"S": "{name: x}", "ADADIM_STORAGE": "ftp://b/x"}, "ftp:// is not known"),
        (["env:S", "--storage", ""], {"S": "{name: x}"}, "--storage is empty"),
        (
            ["env:S", "--storage", "results/a"],
            {"S": "{name: x}", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
            "storage results/a is relative, and a Ray job runs in a copy of its working directory",
        ),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: gr\u00fcn".encode("latin-1"), "not UTF-8 text: byte 0xfc at line 1, column 9; save it as UTF-8"),
        (b"{name: x, epochs: 3}", "/epochs: unknown field 'epochs'"),
        (b"{name: x, stop: {plateau: {patience: 500}}}", "/stop/plateau/patience: no trial can be stopped"),
    ],
)
def test_a_spec_that_is_wrong_is_named_by_its_file(
    text: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    (tmp_path / "spec.yaml").write_bytes(text)
    assert main([str(tmp_path / "spec.yaml")]) == 1
    assert f"failed: {tmp_path / 'spec.yaml'}: {message}" in capsys.readouterr().err


def test_a_signal_that_ray_takes_for_itself_is_an_interruption(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ray.init installs a handler that exits; until ours is back a signal is a SystemExit."""

    def init(*_: Any) -> None:
        raise SystemExit(15)

    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("workers.__main__.run_experiment", init)
    monkeypatch.setattr("workers.__main__._INTERRUPTED_SECONDS", 30.0)  # there is no Ray that kills after 3 s
    (tmp_path / "spec.json").write_text(json.dumps(tiny_spec()))
    assert main([str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]) == 143
    assert service.outcomes() == [{"state": "interrupted", "error": "received SIGTERM"}]


def test_warnings_of_the_driver_are_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Any:
        logging.getLogger("adadim_core.storage.object_store").warning("writing results.json failed; trying again")
        raise RunError("enough")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("workers.__main__.run_experiment", run)
    (tmp_path / "spec.json").write_text(json.dumps(tiny_spec()))
    assert main([str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]) == 1
    assert "trying again" in (tmp_path / "results" / "logs" / "attempt-local.log").read_text()
