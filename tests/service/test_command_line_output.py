"""What the `adadim` command prints: JSON for programs, lines that fit for people, exit codes."""

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.cells import cell_len
from rich.console import Console
from service_harness import Running, points, until
from sqlalchemy import select, update
from test_reports import Reporter
from typer.testing import CliRunner

from adadim.client import Client
from adadim.following import Following
from adadim_core.storage.atomic import write_atomically
from adadim_core.version import VERSION
from service.cli import output
from service.cli.main import app
from service.cli.tables import Column, fitted
from service.cli.watch import _View, watch
from service.database.tables import Experiment, Trial

Adadim = Callable[..., Awaitable[Result]]
METRICS = ("h_r", "i_rz", "knn_top1", "alpha")
SWEEP = """
name: a name that is as long as people make them when they put everything into it
description: what this sweep is about
search: {algorithm: grid, seeds: 15, space: {objective.weighting: {choice: [{policy: fixed, alpha: 0.25},
  {policy: linear, start: 0.125, end: 0.875}, {policy: adaptive, smoothing: 0.123}, {policy: cosine}]}}}
"""


@pytest.fixture
def adadim(service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Adadim:
    """Runs the command beside the service."""
    monkeypatch.setenv("ADADIM_URL", service.url)
    monkeypatch.setenv("ADADIM_TOKEN", service.token)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    async def run(*arguments: str, **options: Any) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, **options)

    return run


@pytest.fixture
async def sweep(service: Running) -> int:
    """A failed sweep of 60 trials in all states, with long labels and reasons."""
    number = int((await service.submit(SWEEP))["id"])
    async with service.context.database.transaction() as session:
        for trial in await session.scalars(select(Trial).order_by(Trial.number)):
            trial.state = ("succeeded", "failed", "pending", "running")[trial.number % 4]
            trial.epoch, trial.epochs = 3, 100
            trial.latest = {
                name: {"value": 0.123456, "step": 9, "time": 0} for name in ("h_r", "i_rz", "knn_top1", "alpha")
            }
            if trial.state == "failed":
                trial.error = "RuntimeError: " + "a reason that goes on and on, " * 9 + "\nTraceback"
        row = await session.get_one(Experiment, number)
        row.state, row.state_reason = "failed", "every trial failed\n" + "this is why it did, in full. " * 8
    return number


def too_wide(text: str, width: int = 80) -> list[str]:
    """Lines beyond the width, but for a word that is longer than it by itself."""
    return [line for line in text.splitlines() if cell_len(line) > width and " " in line.strip()]


async def test_every_line_fits_eighty_columns(adadim: Adadim, service: Running, sweep: int, tmp_path: Path) -> None:
    assert output.console.width == 80, "where there is no terminal"
    (tmp_path / "spec.yaml").write_text(SWEEP)
    for words in (
        ("list",),
        ("watch", str(sweep)),
        ("answer", str(sweep)),
        ("history", str(sweep)),
        ("submit", "spec.yaml", "--dry-run"),
        ("submit", "spec.yaml"),
        ("clone", str(sweep), "--set", "name=" + "long-" * 18),
        ("pause", "2"),
    ):
        result = await adadim(*words)
        assert result.output, words
        assert too_wide(result.output) == [], words


@pytest.mark.parametrize("width", [40, 80, 200])
async def test_watch_shows_a_line_a_trial_and_counts_the_rest(service: Running, sweep: int, width: int) -> None:
    def rendered(height: int | None) -> list[str]:
        with Client(service.url, service.token) as client:
            view = _View(client, Following(client, sweep))
            console = Console(width=width)
            with console.capture() as capture:
                console.print(view.render(width, height))
        return capture.get().splitlines()

    for height, most in ((None, 35), (24, 24)):
        lines = await asyncio.to_thread(rendered, height)
        assert len(lines) <= most
        assert too_wide("\n".join(lines), width) == []
        numbers = [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()]
        assert numbers == [*range(3, 60, 4), *range(1, 60, 4)][: len(numbers)], "running ones first, then the failed"
        (rest,) = [line for line in lines if line.startswith("and ")]
        assert rest.startswith(f"and {60 - len(numbers)} more: ")
    assert "15 running, 15 pending, 15 succeeded, 15 failed" in " ".join(lines) or width == 40
    assert any("what this sweep is about" in line for line in lines)


async def test_a_terminal_is_drawn_within_its_size(service: Running) -> None:
    reporter = await Reporter.open(service)

    def followed() -> str:
        console = Console(force_terminal=True, width=80, height=24, file=io.StringIO(), legacy_windows=False)
        with Client(service.url, service.token) as client:
            watch(client, reporter.experiment_id, console)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]

    watching = asyncio.create_task(asyncio.to_thread(followed))
    await until(lambda: service.feeds._feeds.get(reporter.experiment_id))
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 2}])
    await reporter.accepted(outcome={"state": "failed", "error": "every trial failed"})
    async with asyncio.timeout(60):
        text = (await watching).replace("\r", "\n")
    assert "a #1  failed" in text
    assert too_wide(text) == []


async def test_json_has_what_the_api_has(adadim: Adadim, service: Running, sweep: int, tmp_path: Path) -> None:
    api = {
        "list": ("/experiments", lambda body: body["items"]),
        "answer": (f"/experiments/{sweep}/answer", lambda body: body),
        "history": (f"/experiments/{sweep}/history", lambda body: body["items"]),
    }
    for command, (path, pick) in api.items():
        result = await adadim(command, *([] if command == "list" else [str(sweep)]), "--json")
        assert json.loads(result.output) == pick((await service.http.get(f"/api/v1{path}")).json()), command
    (tmp_path / "spec.yaml").write_text("{name: later, description: für später}")
    plan = json.loads((await adadim("submit", "spec.yaml", "--dry-run", "--json")).output)
    assert plan["summary"] == "1 trial"
    submitted = await adadim("submit", "spec.yaml", "--json")
    number = json.loads(submitted.output)["id"]
    assert json.loads(submitted.output)["spec"]["description"] == "für später"
    assert submitted.output.isascii(), "any terminal and any program takes it"
    for words in (("pause", str(number)), ("clone", str(number)), ("delete", str(number), "--yes")):
        assert json.loads((await adadim(*words, "--json")).output)["name"] == "later", words
    lines = (await adadim("watch", str(sweep), "--json")).output.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["experiment"]]


async def test_a_piped_watch_ends_each_trial_with_its_last_values(adadim: Adadim, service: Running) -> None:
    reporter = await Reporter.open(service)
    watching = asyncio.create_task(adadim("watch", str(reporter.experiment_id)))
    await until(lambda: service.feeds._feeds.get(reporter.experiment_id))
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 2}])
    await reporter.accepted(series=[points(0, [1, 5], [1.0, 2.978])])
    ended = [{"number": k, "state": "succeeded", "epoch": 2, "epochs": 2} for k in range(3)]
    await reporter.accepted(series=[points(0, [6], [2.969])], trials=ended)
    await reporter.accepted(outcome={"state": "succeeded"})
    async with asyncio.timeout(60):
        result = await watching
    told = [line for line in result.output.splitlines() if line.startswith("trial 0 ")]
    assert "succeeded  2/2" in told[-1], result.output
    assert "H(R) 2.969" in told[-1], result.output


async def test_the_encoder_of_the_best_trial_or_of_one_that_is_named(
    adadim: Adadim, service: Running, tmp_path: Path, run_folder: Callable[[int], Path]
) -> None:
    reporter = await Reporter.open(service)
    number = reporter.experiment_id
    assert "has ended with a number" in (await adadim("encoder", str(number))).stderr
    await reporter.accepted(
        series=[points(0, [1], [1.0]), points(1, [1], [2.0])],
        trials=[{"number": k, "state": "succeeded", "epoch": 1, "epochs": 1} for k in range(2)],
    )
    for trial in range(2):
        write_atomically(
            run_folder(number) / f"trials/{trial:04d}/encoder.safetensors",
            lambda file, trial=trial: file.write(b"%d" % trial),
        )
    best = await adadim("encoder", str(number))
    assert best.exit_code == 0, best.output
    assert "experiment-1-trial-1-encoder.safetensors: trial 1" in " ".join(best.output.split())
    assert (tmp_path / f"experiment-{number}-trial-1-encoder.safetensors").read_bytes() == b"1"
    named = await adadim("encoder", str(number), "--trial", "0", "--output", "mine.safetensors")
    assert named.exit_code == 0
    assert (tmp_path / "mine.safetensors").read_bytes() == b"0"
    missing = await adadim("encoder", str(number), "--trial", "9")
    assert (missing.exit_code, missing.stderr) == (1, f"Error: Experiment {number} has no trial 9.\n")


async def test_open_prints_the_link(adadim: Adadim, service: Running) -> None:
    number = (await service.submit("name: a"))["id"]
    opened = await adadim("open", str(number))
    assert (opened.exit_code, opened.output) == (0, f"{service.url}/experiments/{number}\n")
    assert "There is no experiment 4711." in (await adadim("open", "4711")).stderr


async def test_the_list_counts_failed_trials(adadim: Adadim, service: Running) -> None:
    await service.submit("{name: partly, search: {trials: 3, space: {training.lr: {uniform: [0.1, 0.5]}}}}")
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).where(Trial.number > 0).values(state="failed"))
        await session.execute(update(Experiment).values(state="succeeded", trials_done=3))
    assert "3/3, 2 failed" in (await adadim("list")).output


async def test_version_and_exit_codes(adadim: Adadim) -> None:
    assert (await adadim("--version")).output == f"adadim {VERSION}\n"
    assert (await adadim("list", "--limit", "0")).exit_code == 2
    assert (await adadim("watch", "4711")).exit_code == 1
    assert "Exit codes" in (await adadim("--help")).output


def test_columns_shrink_before_they_are_dropped() -> None:
    columns = [Column("id", "right"), Column("name", shrinks_to=5), Column("b", dropped=1), Column("c", dropped=2)]
    rows = [["1", "a long name", "bbbb", "cccc"]]

    def lines(width: int) -> list[str]:
        console = Console(width=width)
        with console.capture() as capture:
            console.print(fitted(columns, rows, width))
        return [line.split() for line in capture.get().splitlines()]

    assert lines(40)[1] == ["1", "a", "long", "name", "bbbb", "cccc"]
    assert lines(22)[1] == ["1", "a", "lon…", "bbbb", "cccc"]
    assert lines(19)[0] == ["id", "name", "b"]
    assert lines(12)[0] == ["id", "name"]
