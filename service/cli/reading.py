"""Commands that show what there is: list, watch, answer, logs, open."""

import os
import sys
import textwrap
import webbrowser
from typing import Annotated, Any

import typer

from adadim.client import ClientError
from adadim.connection import open_client
from adadim_core.spec.report import decode_float
from service.cli import times
from service.cli.output import (
    AsJson,
    ExperimentArgument,
    brief,
    console,
    print_json,
    print_pieces,
    print_text,
    readable_errors,
)
from service.cli.tables import Column, fitted
from service.cli.watch import print_answer
from service.cli.watch import watch as watch_experiment

app = typer.Typer()

_REASON = 300
"""Characters of a reason that a list shows; `history` shows all."""


@app.command("list")
def list_experiments(
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many to show.")] = 20,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="With this label: project=x, or project alone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List experiments, newest first, with what they wait for or why they failed."""
    with readable_errors(), open_client() as client:
        found = client.experiments(limit, labels=label or ())
        if as_json:
            print_json(found)
            return
        columns = [
            Column("id", "right"),
            Column("name", shrinks_to=16),
            Column("state"),
            Column("trials"),
            Column("best", dropped=1),
            Column("owner", shrinks_to=8, dropped=3),
            Column(times.headed("created", (experiment["created_at"] for experiment in found)), dropped=2),
            Column("labels", shrinks_to=12, dropped=4),
        ]
        console.print(fitted(columns, [_row(experiment) for experiment in found], console.width))
        for experiment in found:
            if why := _why(experiment):
                print_text(f"{experiment['id']} {why}", indent="  ")


@app.command()
def watch(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """Watch an experiment until it ends; exit code 0 if it succeeded. With --json a line for each change."""
    with readable_errors(), open_client() as client:
        if watch_experiment(client, experiment, console, as_json=as_json)["state"] != "succeeded":
            raise typer.Exit(1)


@app.command()
def answer(experiment: ExperimentArgument, *, as_json: AsJson = False) -> None:
    """Say which configuration is best, by how much, and what is not known."""
    with readable_errors(), open_client() as client:
        if as_json:
            print_json(client.answer(experiment))
        else:
            print_answer(client, experiment, console)


@app.command()
def logs(
    experiment: ExperimentArgument,
    *,
    trial: Annotated[int | None, typer.Option("--trial", "-t", min=0, help="A trial's number: its own log.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stream until the experiment ends.")] = False,
) -> None:
    """Print an experiment's log, or that of one of its trials."""
    with readable_errors(), open_client() as client:
        if trial is None:
            pieces = client.logs(experiment, follow=follow)
        else:
            ids = {row["number"]: row["id"] for row in client.trials(experiment)}
            if trial not in ids:
                raise ClientError(f"Experiment {experiment} has no trial {trial}.")
            pieces = client.trial_logs(ids[trial], follow=follow)
        print_pieces(pieces)


@app.command("open")
def open_page(experiment: ExperimentArgument) -> None:
    """Print the address of an experiment's page, and open it where there is a browser."""
    with readable_errors(), open_client() as client:
        client.experiment(experiment)  # there is one, or this says that there is none
        address = f"{client.url}/experiments/{experiment}"
    typer.echo(address)
    if sys.stdout.isatty() and _has_windows():
        webbrowser.open(address)


def _has_windows() -> bool:
    """Whether a browser would have a window of its own, and not take over the terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _row(experiment: dict[str, Any]) -> list[str]:
    value = decode_float(experiment["best_value"])
    best = "-" if value is None else f"{experiment['metric']} {value:.3f} (trial {experiment['best_trial']})"
    done = f"{experiment['trials_done']}/{experiment['trial_count']}"
    failed = (experiment["trial_states"] or {}).get("failed")
    trials = f"{done}, {failed} failed" if failed else done
    labels = " ".join(f"{key}={value}" for key, value in experiment["labels"].items())
    created = times.minute(experiment["created_at"])
    who, state = experiment["owner"], experiment["state"]
    return [str(experiment["id"]), experiment["name"], state, trials, best, who, created, labels]


def _why(experiment: dict[str, Any]) -> str | None:
    """What an experiment waits for, or the beginning of the reason for its state, where it has trouble."""
    state, reason, waiting = experiment["state"], experiment["state_reason"], experiment["waiting"]
    if waiting:
        place = "" if waiting["position"] is None else f" (place {waiting['position']})"
        return f"{state}: {waiting['reason']}{place}"
    if not reason or state not in ("failed", "starting", "running"):
        return None
    words = brief(reason).splitlines()
    # "every trial failed" says less than what follows it
    return f"{state}: {textwrap.shorten(words[min(1, len(words) - 1)], _REASON, placeholder=' ...')}"
