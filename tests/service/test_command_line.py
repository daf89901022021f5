"""The `adadim` command against a live service: what it prints, and readable errors with exit code 1."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from service_harness import Running, load, points, serving, until
from sqlalchemy import select
from typer.testing import CliRunner

from service.cli.main import app
from service.database.tables import Experiment, Transition, Trial

SPEC = "{name: from file, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.5]}}}}"
Adadim = Callable[..., Awaitable[Result]]


@pytest.fixture
def adadim(service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Adadim:
    """Runs the command beside the service."""
    monkeypatch.setenv("ADADIM_URL", service.url)
    monkeypatch.setenv("ADADIM_TOKEN", service.token)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path))

    async def run(*arguments: str, **options: Any) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, **options)

    return run


@pytest.fixture
def spec_file(tmp_path: Path) -> str:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)
    return str(file)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def one_line(result: Result) -> str:
    """What was printed, without the breaks of lines that its width made."""
    return " ".join(result.output.split())


async def test_submit_stores_and_says_where_to_look(adadim: Adadim, service: Running, spec_file: str) -> None:
    result = await adadim("submit", spec_file)
    assert result.exit_code == 0, result.output
    experiment = (await service.http.get("/api/v1/experiments")).json()["items"][0]
    assert f"Experiment {experiment['id']} (from file) is queued" in result.output
    assert f"{service.url}/experiments/{experiment['id']}" in result.output
    from_input = await adadim("submit", "-", input="name: from input")
    assert "(from input) is queued" in from_input.output


async def test_a_dry_run_shows_the_plan_and_stores_nothing(adadim: Adadim, service: Running, spec_file: str) -> None:
    result = await adadim("submit", "--dry-run", spec_file)
    assert result.exit_code == 0
    assert "it would run 2 configurations x 1 seed = 2 trials" in result.output
    assert "  1  training.lr=0." in result.output
    assert (await service.http.get("/api/v1/experiments")).json()["items"] == []


async def test_a_dry_run_says_where_a_spec_is_not_its_presets(adadim: Adadim, service: Running, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("{name: a, preset: paper, training: {epochs: 7}}")
    said = " ".join((await adadim("submit", "--dry-run", str(tmp_path / "spec.yaml"))).output.split())
    assert "Preset paper, what the paper is believed to do" in said
    assert "but training.epochs=7 (not 400)." in said


async def test_a_dry_run_says_what_is_yet_to_be_chosen(adadim: Adadim, service: Running, tmp_path: Path) -> None:
    search = ", search: {{algorithm: tpe, trials: 1, seeds: {}, space: {{training.lr: {{uniform: [0.1, 0.5]}}}}}}"
    for text, plan in (
        ("", "1 trial:\n  0  as specified"),
        (search.format(1), "1 configuration x 1 seed = 1 trial:\n  0  not chosen yet"),
        (search.format(2), "1 configuration x 2 seeds = 2 trials:\n  0  not chosen yet, seed 0"),
    ):
        (tmp_path / "spec.yaml").write_text(f"{{name: a{text}}}")
        result = await adadim("submit", "--dry-run", str(tmp_path / "spec.yaml"))
        assert f"would run {plan}" in result.output


async def test_a_wrong_spec_is_said_field_by_field(adadim: Adadim, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: a\ntrainig: {}\nretries: -1")
    for options in ([], ["--dry-run"]):
        result = await adadim("submit", *options, str(file))
        refused(result, "Error: /retries: should be", "not -1\n/trainig: unknown field", "did you mean 'training'?")


async def test_list_shows_every_experiment_whatever_its_best_value(adadim: Adadim, service: Running) -> None:
    for value in (None, 0.987654, float("inf"), float("nan")):
        experiment = await service.submit("name: listed")
        async with service.context.database.transaction() as session:
            row = await session.get_one(Experiment, experiment["id"])
            row.best_value, row.best_trial = value, None if value is None else 3
    result = await adadim("list")
    assert result.exit_code == 0, result.exception
    assert result.output.count("listed") == 4
    assert "knn_top1 0.988 (trial 3)" in result.output
    assert "Infinity" in result.output or "inf" in result.output
    assert (await adadim("list", "--limit", "1")).output.count("listed") == 1


async def test_actions_say_what_they_did(adadim: Adadim, service: Running) -> None:
    number = str((await service.submit())["id"])
    for action, said in (
        ("pause", f"Experiment {number} was queued; it is paused now."),
        ("pause", f"Experiment {number} is paused already; nothing was done."),
        ("resume", f"Experiment {number} was paused; it is queued now."),
        ("cancel", f"Experiment {number} was queued; it is cancelling now."),
    ):
        result = await adadim(action, number)
        assert (result.exit_code, result.output.strip()) == (0, said)
    refused(await adadim("retry", number), "it is being cancelled; wait until it is cancelled, then retry")
    refused(await adadim("cancel", "4711"), "There is no experiment 4711.")
    history = (await adadim("history", number)).output
    for word in ("queued", "paused by ada", "resumed by ada", "cancelling"):
        assert word in history


async def test_text_of_others_is_shown_as_it_is(adadim: Adadim, service: Running) -> None:
    number = (await service.submit(SPEC))["id"]
    text = "killed [/usr/bin/python] :smile: [bold]x"
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, number)
        row.state, row.state_reason = "failed", text
        session.add(
            Transition(experiment_id=number, source="queued", target="failed", by="[x]", reason=text, attempt=0)
        )
        for trial in await session.scalars(select(Trial)):
            trial.reason = text
    history = await adadim("history", str(number))
    assert history.exit_code == 0, history.exception
    assert text in one_line(history)
    assert "[x]" in history.output
    watched = await adadim("watch", str(number))
    assert watched.exit_code == 1
    assert watched.output.count("[/usr/bin/python]") >= 2, watched.exception


async def test_watch_says_why_a_trial_failed_and_takes_a_spec_of_another_version(
    adadim: Adadim, service: Running
) -> None:
    number = (await service.submit(SPEC))["id"]
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, number)
        row.state, row.spec = "failed", row.spec | {"objective": {"of": "another version"}}
        for trial in await session.scalars(select(Trial).where(Trial.number == 1)):
            trial.state, trial.error = "failed", "Diverged: the loss is nan at step 7\nTraceback ..."
    watched = await adadim("watch", str(number))
    assert watched.exit_code == 1
    assert watched.exception is None or isinstance(watched.exception, SystemExit)
    (line,) = [line for line in watched.output.splitlines() if "Diverged" in line]
    assert line.split()[0] == "1"
    assert "training.lr" in line, "its values, as there is no label"
    assert "Traceback" not in watched.output


async def test_a_clone_is_submitted_with_its_changes(adadim: Adadim, service: Running, spec_file: str) -> None:
    await adadim("submit", spec_file, "--priority", "-3")
    source = (await service.http.get("/api/v1/experiments")).json()["items"][0]
    assert source["priority"] == -3
    assert "(place 1)" in (await adadim("list")).output
    result = await adadim("clone", str(source["id"]), "--set", "training.epochs=17", "--set", "name=second")
    assert "(second) is queued" in result.output
    copy = await service.experiment(source["id"] + 1)
    assert copy["spec"]["training"]["epochs"] == 17
    refused(await adadim("clone", str(source["id"]), "--set", "training.epochs"), "write field=value")
    refused(await adadim("clone", str(source["id"]), "--set", "training.epochs=-1"), "/training/epochs")


async def test_an_ended_sweep_is_extended(adadim: Adadim, service: Running) -> None:
    number = str((await service.submit(SPEC))["id"])
    refused(await adadim("extend", number, "--seeds", "3"), "it has not ended; extend it when it has")
    refused(await adadim("extend", number), "say what to add")
    async with service.context.database.transaction() as session:
        (await session.get_one(Experiment, int(number))).state = "succeeded"
    result = await adadim("extend", number, "--seeds", "3")
    assert "was succeeded; it is queued now" in result.output
    assert "extended by ada to 2 configurations x 3 seeds = 6 trials" in one_line(await adadim("history", number))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.lr=1_0", "/training/lr: should be a valid number"),
        ("training.epochs=1:30", "/training/epochs"),
        ("training.compile=yes", "/training/compile"),
        ("training.clip_norm=.inf", "--set training.clip_norm: a number must be finite, not .inf"),
        ("name=a: b", "--set name: not a value in YAML"),
        (
            "objective.dimension_loss.name=barlow_twins",
            "set the whole section: objective.dimension_loss={name: barlow_twins}",
        ),
        ("lr=0.1", "lr: no such field (did you mean 'training.lr'?)"),
    ],
)
async def test_a_change_that_no_spec_could_hold_is_refused(
    adadim: Adadim, service: Running, change: str, words: str
) -> None:
    source = await service.submit("name: source")
    refused(await adadim("clone", str(source["id"]), "--set", change), words)


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        ("evaluation.linear_probe=off", ("evaluation", "linear_probe"), "off"),
        ("training.seed=010", ("training", "seed"), 10),
        ("name=2026-01-01", ("name",), "2026-01-01"),
        ("description=2026-01-01 10:00:00", ("description",), "2026-01-01 10:00:00"),
        ("objective.dimension_loss={name: barlow_twins}", ("objective", "dimension_loss", "redundancy"), 0.0051),
    ],
)
async def test_a_change_is_read_as_in_a_spec(
    adadim: Adadim, service: Running, change: str, path: tuple[str, ...], value: object
) -> None:
    source = await service.submit("name: source")
    result = await adadim("clone", str(source["id"]), "--set", change)
    assert result.exit_code == 0, result.output
    found = (await service.experiment(source["id"] + 1))["spec"]
    for name in path:
        found = found[name]
    assert found == value


async def test_a_spec_of_another_encoding_is_named_with_the_remedy(adadim: Adadim, tmp_path: Path) -> None:
    for encoding in ("utf-16", "latin-1"):
        file = tmp_path / f"{encoding}.yaml"
        file.write_text("name: a\ndescription: gr\u00fcn", encoding=encoding)
        refused(await adadim("submit", str(file)), f"Error: {file}: ", "save it as UTF-8")


async def test_a_setting_without_effect_is_refused(adadim: Adadim, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("{name: a, evaluation: {knn_k: 5000}}")
    result = await adadim("submit", "--dry-run", str(tmp_path / "spec.yaml"))
    refused(result, "/evaluation/knn_k: 5000 neighbours are more than the 1438 training images of digits")


async def test_delete_asks_first(adadim: Adadim, service: Running) -> None:
    number = str((await service.submit("name: dear"))["id"])
    kept = await adadim("delete", number, input="n\n")
    assert kept.exit_code == 1
    assert "dear" in kept.output
    assert (await service.experiment(int(number)))["state"] == "queued"
    assert "it is deleting now" in (await adadim("delete", number, input="y\n")).output
    assert "deleting already" in (await adadim("delete", number, "--yes")).output


async def test_logs_of_what_has_none_are_empty(adadim: Adadim, service: Running) -> None:
    experiment = await service.submit()
    result = await adadim("logs", str(experiment["id"]))
    assert (result.exit_code, result.output) == (0, "")
    refused(await adadim("logs", "4711"), "There is no experiment 4711.")


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_watch_of_an_ended_experiment_shows_the_table(adadim: Adadim, service: Running, state: str) -> None:
    experiment = await service.submit(SPEC)
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, experiment["id"])
        row.state = state
    result = await adadim("watch", str(experiment["id"]))
    assert result.exit_code == (0 if state == "succeeded" else 1)
    assert f"from file #{experiment['id']}" in result.output
    assert "No statement yet: no trial has ended with a k-NN accuracy." in result.output


async def test_a_live_watch_ends_with_the_experiment(adadim: Adadim, service: Running) -> None:
    from test_reports import Reporter

    reporter = await Reporter.open(service)
    watching = asyncio.create_task(adadim("watch", str(reporter.experiment_id)))
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 2}])
    await reporter.accepted(series=[points(0, [1], ["NaN"]), points(1, [1], [2.5])])
    await reporter.accepted(trials=[{"number": 0, "state": "succeeded"}], outcome={"state": "succeeded"})
    async with asyncio.timeout(60):
        result = await watching
    assert result.exit_code == 0, result.output
    assert "succeeded" in result.output
    assert "2.500" in result.output


async def test_a_watch_begins_with_the_state(adadim: Adadim, service: Running) -> None:
    from test_reports import Reporter

    reporter = await Reporter.open(service)
    number = reporter.experiment_id
    await service.http.post(f"/api/v1/experiments/{number}/pause")
    watching = asyncio.create_task(adadim("watch", str(number)))
    await until(lambda: service.feeds._feeds.get(number))
    await reporter.accepted(outcome={"state": "succeeded"})
    async with asyncio.timeout(60):
        result = await watching
    assert result.output.startswith(f"experiment {number} pausing"), result.output


async def test_a_line_tells_an_epoch_with_the_h_r_measured_in_it(adadim: Adadim, service: Running) -> None:
    from test_reports import Reporter

    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [0], [1.0])])
    watching = asyncio.create_task(adadim("watch", str(reporter.experiment_id)))
    feed = await until(lambda: service.feeds._feeds.get(reporter.experiment_id))
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 2}])
    await reporter.accepted(trials=[{"number": 1, "state": "running", "epoch": 0, "epochs": 2}])
    await reporter.accepted(series=[points(0, [0, 5], [1.0, 2.0])])
    await reporter.accepted(series=[points(0, [3], [9.0])])  # of before, and late
    # An event of a trial carries the state in which it is read.
    last = (await load(service.context, reporter.experiment_id)).seq
    await until(lambda: feed._end == last)
    await reporter.accepted(trials=[{"number": 0, "state": "succeeded"}], outcome={"state": "succeeded"})
    async with asyncio.timeout(60):
        result = await watching
    lines = [line for line in result.output.splitlines() if line.startswith("trial 0 ")]
    assert any("running  1/2  H(R) 2.000" in line for line in lines), result.output
    assert not any("1/2  H(R) 1.000" in line or "H(R) 9.000" in line for line in lines), result.output


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"ADADIM_URL": "http://127.0.0.1:1"}, "is `adadim serve` running?"),
        ({"ADADIM_URL": "nonsense"}, "nonsense"),
        ({"ADADIM_URL": "http://["}, "http://["),
        ({"ADADIM_TOKEN": "adadim_wrong"}, "has expired or was revoked"),
        ({"ADADIM_TOKEN": ""}, "set ADADIM_TOKEN"),
        ({"ADADIM_TOKEN": "schlüssel"}, "ADADIM_TOKEN"),
        ({"ADADIM_URL": "https://elsewhere.example.org", "ADADIM_TOKEN": ""}, "no token for https://elsewhere"),
        ({"ADADIM_URL": "http://[", "ADADIM_TOKEN": ""}, "no token for http://["),
        ({"ADADIM_URL": ""}, "start one with `adadim serve`"),
    ],
)
async def test_a_service_that_cannot_be_used_is_one_readable_line(
    adadim: Adadim, environment: dict[str, str], word: str, tmp_path: Path
) -> None:
    if "no token" in word:  # this machine's is not for others
        (tmp_path / "token").write_text("adadim_of_this_machine")
    refused(await adadim("list", env=environment), word)


async def test_another_server_at_the_address_is_said(adadim: Adadim, service: Running) -> None:
    from fastapi import FastAPI, Response

    other = FastAPI()
    other.add_api_route("/{path:path}", lambda: Response("<html>hello</html>"))
    async with serving(other, lifespan=False) as url:
        refused(await adadim("list", env={"ADADIM_URL": url}), f"what answers at {url} is not an AdaDim service")


async def test_a_file_that_is_not_there_or_not_text_is_one_readable_line(adadim: Adadim, tmp_path: Path) -> None:
    refused(await adadim("submit", str(tmp_path / "none.yaml")), "No such file")
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    refused(await adadim("submit", str(tmp_path / "binary")), f"{tmp_path / 'binary'}: not UTF-8 text: byte 0xff")


@pytest.mark.parametrize("name", ["ADADIM_PORT", "DATABASE_URL", "RAY_ADDRESS", "ADADIM_SLOTS"])
async def test_serve_names_the_variable_that_is_wrong(adadim: Adadim, name: str) -> None:
    refused(await adadim("serve", env={name: "-1"}), f"{name}: ")


async def test_data_tells_what_would_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "set & more.npz", train_images=pixels, train_labels=np.arange(20) % 2)
    read = await asyncio.to_thread(CliRunner().invoke, app, ["data", str(tmp_path / "set & more.npz"), "--json"])
    told = capfd.readouterr()
    assert read.exit_code == 0, told.err
    found = json.loads(told.out)
    assert "training images: 18 (train_images)" in found["lines"]
    assert (found["train"]["images"], found["bad_files_found"]) == (18, [])
    absent = await asyncio.to_thread(CliRunner().invoke, app, ["data", str(tmp_path / "absent")])
    assert absent.exit_code == 1
    assert f"there is no {tmp_path}/absent" in capfd.readouterr().err


async def test_data_says_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.data.find_spec", lambda name: None)
    refused(CliRunner().invoke(app, ["data", str(tmp_path)]), "torch, numpy, pillow", "pip install 'adadim[core]'")


async def test_a_restart_is_another_experiment(adadim: Adadim, service: Running, spec_file: str) -> None:
    await adadim("submit", spec_file)
    result = await adadim("retry", "1", "--restart")
    assert "Experiment 2 (from file) is queued" in result.output, result.output
    assert (await service.experiment(1))["state"] == "queued"


async def test_the_list_says_why_an_experiment_failed(adadim: Adadim, service: Running, spec_file: str) -> None:
    await adadim("submit", spec_file)
    reason = "every trial failed\n2 of 2 failed trials: DataChangedError: the data changed\n\nTraceback"
    async with service.context.database.transaction() as session:
        experiment = await session.get_one(Experiment, 1)
        experiment.state, experiment.state_reason = "failed", reason
    listed = await adadim("list")
    assert "failed: 2 of 2 failed trials: DataChangedError: the data changed" in one_line(listed)
    assert "Traceback" not in listed.output
