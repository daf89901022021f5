"""Commands on experiments that exist: cancel, pause, resume, retry, extend, clone, delete, history."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from adadim.client import ClientError
from adadim.connection import open_client
from adadim_core.spec import SpecError
from adadim_core.spec.notation import load_value
from adadim_core.terminal import terminal_text
from service.cli import times
from service.cli.output import (
    AsJson,
    ExperimentArgument,
    brief,
    console,
    print_json,
    print_queued,
    print_text,
    readable_errors,
)

app = typer.Typer()


def _act(action: str, experiment: int, *, as_json: bool) -> None:
    with readable_errors(), open_client() as client:
        _print_done(client.act(action, experiment), as_json=as_json)


def _print_done(experiment: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(experiment)
    else:
        print_text(experiment["message"])


@app.command()
def cancel(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """End an experiment; `retry` can take it up again."""
    _act("cancel", experiment, as_json=as_json)


@app.command()
def pause(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """Free the cluster: trials keep their checkpoints until `resume`."""
    _act("pause", experiment, as_json=as_json)


@app.command()
def resume(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """Queue a paused experiment again; it resumes from its checkpoints."""
    _act("resume", experiment, as_json=as_json)


@app.command()
def retry(
    experiment: ExperimentArgument,
    *,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Train anew, as another experiment: the points of this one stay apart from its own."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a failed or cancelled experiment again; it resumes from its checkpoints."""
    if restart:
        _clone(experiment, {}, priority=None, as_json=as_json)
    else:
        _act("retry", experiment, as_json=as_json)


@app.command()
def extend(
    experiment: ExperimentArgument,
    *,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of every configuration from now on; of a race at most.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Configurations from now on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Queue an ended sweep again with more seeds or configurations: only the trials it lacks run."""
    with readable_errors(), open_client() as client:
        if seeds is None and trials is None:
            raise ClientError("say what to add: --seeds 5, or --trials 20")
        _print_done(client.extend(experiment, seeds=seeds, trials=trials), as_json=as_json)


@app.command()
def clone(
    experiment: ExperimentArgument,
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field to change, as training.epochs=200, written as in a spec; may be repeated."),
    ] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Default: that of the original.")] = None,
    as_json: AsJson = False,
) -> None:
    """Submit an experiment's spec as a new one, with some fields changed."""
    with readable_errors():
        _clone(experiment, dict(_change(text) for text in changes or []), priority=priority, as_json=as_json)


def _clone(experiment: int, changes: dict[str, Any], *, priority: int | None, as_json: bool) -> None:
    with readable_errors(), open_client() as client:
        answer = client.clone(experiment, changes, priority=priority)
        if as_json:
            print_json(answer)
        else:
            print_queued(client.url, answer)


def _change(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise ClientError(f"--set {text}: write field=value, as training.epochs=200")
    try:
        found = load_value(value)
        json.dumps(found, allow_nan=False)
    except SpecError as error:
        raise ClientError(f"--set {path}: {error.problems[0].message}") from None
    except ValueError:
        raise ClientError(f"--set {path}: a number must be finite, not {value}") from None
    return path, found


@app.command()
def delete(
    experiment: ExperimentArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete an experiment: points, logs, checkpoints, encoders and results."""
    with readable_errors(), open_client() as client:
        found = client.experiment(experiment)
        if not yes:
            what = f"{terminal_text(found['name'])}, {found['trial_count']} trials"
            typer.confirm(
                f"Delete experiment {experiment} ({what}) with its points, logs, checkpoints, encoders and results?",
                abort=True,
            )
        _print_done(client.delete(experiment, confirm=True), as_json=as_json)


@app.command()
def history(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """Show what happened to an experiment: when, by whom and why."""
    with readable_errors(), open_client() as client:
        if as_json:
            print_json(client.history(experiment))
            return
        table = Table(box=None, pad_edge=False, header_style="dim")
        steps = client.history(experiment)
        for head in (times.headed("time", (step["at"] for step in steps)), "state", "attempt", "by", "why"):
            table.add_column(head)
        for step in steps:
            table.add_row(
                times.second(step["at"]),
                step["target"],
                str(step["attempt"] or "-"),
                step["by"],
                brief(step["reason"] or ""),
            )
        console.print(table)
