"""The commands of `adadim`. Each is a few lines over the client; errors are one readable line and exit code 1."""

import asyncio
import json
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from adadim.client import ClientError
from adadim.connection import open_client
from adadim.spec_file import spec_text
from adadim_core.spec import configuration_of, parse_spec, trial_label
from adadim_core.spec.report import decode_float
from service.cli.data import app as data_app
from service.cli.demo import demo as run_demo
from service.cli.export import Rows as ExportRows
from service.cli.export import export_rows
from service.cli.lifecycle import app as lifecycle_app
from service.cli.output import ExperimentArgument, brief, console, readable_errors
from service.cli.report import report_of_experiment, report_of_run
from service.cli.tokens import app as tokens_app
from service.cli.watch import print_answer
from service.cli.watch import watch as watch_experiment
from service.settings import Settings

app = typer.Typer(
    help="Sweep AdaDim loss weightings and watch H(R) and I(R;Z) live.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(lifecycle_app)
app.add_typer(data_app)
app.add_typer(tokens_app, name="token")

_REASON = 90
"""Characters of a reason that a list shows; `history` shows all."""

SpecArgument = Annotated[
    Path, typer.Argument(help="YAML or JSON file with the spec; - reads standard input.", allow_dash=True)
]


@app.command()
def serve() -> None:
    """Run the service: REST API, dashboard, dispatcher; settings come from environment variables."""
    # Imported here: the other commands are clients and need none of it.
    from service.cli.serve import serve as run
    from service.starting import ServeError

    with readable_errors():
        try:
            run(Settings.from_environ())
        except ServeError as error:
            raise ClientError(str(error)) from None


@app.command()
def doctor() -> None:
    """Check database, migrations, cluster, storage and clocks, and say what to do; exit code 1 if one fails."""
    from service.cli.doctor import examine  # as in serve

    with readable_errors():
        findings = asyncio.run(examine(Settings.from_environ()))
    for finding in findings:
        mark = "[green]ok  [/]" if finding.ok else "[red]fail[/]"
        console.print(f"{mark} {finding.name:14} {escape(finding.text)}", soft_wrap=True, highlight=False, markup=True)
        if not finding.ok:
            console.print(f"{'':16}{finding.remedy}", soft_wrap=True, highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def submit(
    spec: SpecArgument,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the plan; submit nothing.")] = False,
    priority: Annotated[
        int, typer.Option(min=-100, max=100, help="Higher ones start first; above 0 takes an admin.")
    ] = 0,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Watch the experiment afterwards.")] = False,
) -> None:
    """Submit a spec as an experiment."""
    with readable_errors(), open_client() as client:
        text = spec_text(spec, client.url)
        answer = client.submit(text, dry_run=dry_run, priority=priority)
        if dry_run:
            trials = answer["trials"]
            console.print(f"The spec is valid; it would run {answer['summary']}:", highlight=False)
            parsed = parse_spec(text)
            for trial in trials:
                shown = trial["params"] or "as specified"
                if parsed.search is not None and not configuration_of(trial["params"]):
                    shown = trial_label(parsed, trial["params"])  # TPE has yet to choose
                console.print(f"  {trial['number']}  {shown}", highlight=False)
            return
        console.print(
            f"Experiment {answer['id']} ({answer['name']}) is queued: {client.url}/experiments/{answer['id']}"
        )
        if follow and watch_experiment(client, answer["id"], console)["state"] != "succeeded":
            raise typer.Exit(1)


@app.command("list")
def list_experiments(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many to show.")] = 20,
    *,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="With this label: project=x, or project alone.")
    ] = None,
) -> None:
    """List experiments, newest first."""
    with readable_errors(), open_client() as client:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for head in ("id", "name", "state", "trials", "best", "owner", "created", "labels"):
            table.add_column(head)
        for e in client.experiments(limit, labels=label or ()):
            value = decode_float(e["best_value"])
            best = "-" if value is None else f"{e['metric']} {value:.3f} (trial {e['best_trial']})"
            created = e["created_at"][:16].replace("T", " ")
            trials = f"{e['trials_done']}/{e['trial_count']}"
            if failed := (e["trial_states"] or {}).get("failed"):
                trials += f", {failed} failed"
            labels = " ".join(f"{key}={value}" for key, value in e["labels"].items())
            table.add_row(str(e["id"]), e["name"], _state(e), trials, best, e["owner"], created, labels)
        console.print(table)


def _state(experiment: dict[str, Any]) -> str:
    """The state of an experiment with what it waits for, or the beginning of its reason where it has trouble."""
    state, reason, waiting = experiment["state"], experiment["state_reason"], experiment["waiting"]
    if waiting:
        place = "" if waiting["position"] is None else f" (place {waiting['position']})"
        return f"{state}: {waiting['reason']}{place}"
    if not reason or state not in ("failed", "starting", "running"):
        return str(state)
    words = brief(reason).splitlines()
    # "every trial failed" says less than what follows it
    return f"{state}: {textwrap.shorten(words[min(1, len(words) - 1)], _REASON, placeholder=' ...')}"


@app.command()
def watch(experiment: ExperimentArgument) -> None:
    """Watch an experiment until it ends; exit code 0 if it succeeded."""
    with readable_errors(), open_client() as client:
        if watch_experiment(client, experiment, console)["state"] != "succeeded":
            raise typer.Exit(1)


@app.command()
def answer(
    experiment: ExperimentArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The whole analysis as JSON.")] = False,
) -> None:
    """Say which configuration is best, by how much, and what is not known."""
    with readable_errors(), open_client() as client:
        if as_json:
            typer.echo(json.dumps(client.answer(experiment), indent=2, ensure_ascii=False))
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
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()


@app.command()
def export(
    experiment: ExperimentArgument,
    *,
    rows: Annotated[ExportRows, typer.Option(help="points, or trials: one row each.")] = "points",
    form: Annotated[str, typer.Option("--format", help="csv, parquet or tensorboard.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to: a file; for tensorboard a folder.")
    ] = None,
) -> None:
    """Write every point of an experiment, or a table of its trials, to a file, or to TensorBoard's event files."""
    with readable_errors(), open_client() as client:
        written = export_rows(client, experiment, rows, form, output)
    console.print(written, soft_wrap=True, highlight=False)


@app.command()
def report(
    source: Annotated[
        str,
        typer.Argument(help="Number of an experiment, or the folder of a run that was made without the service."),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; default: experiment-N-report, or RUN/report."),
    ] = None,
) -> None:
    """Write a report for a paper: the answer, figures as PDF and SVG, tables as CSV and LaTeX, a methods paragraph."""
    with readable_errors():
        if source.isdecimal():
            with open_client() as client:
                written = report_of_experiment(client, int(source), output)
        else:
            written = report_of_run(Path(source), output)
    console.print(f"{written[0]} and {len(written) - 1} more files beside it", soft_wrap=True, highlight=False)


@app.command()
def demo(spec: SpecArgument = Path("examples/digits-sweep.yaml")) -> None:
    """Run a sweep on scikit-learn's digits from start to end: service, live view, answer."""
    with readable_errors():
        if not run_demo(spec, console):
            raise typer.Exit(1)


if __name__ == "__main__":
    app()
