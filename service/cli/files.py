"""Commands that write files: export, report, encoder."""

from pathlib import Path
from typing import Annotated

import typer

from adadim.connection import open_client
from adadim.experiments import Experiment
from adadim.trials import Trial
from service.cli.export import Rows as ExportRows
from service.cli.export import export_rows
from service.cli.output import ExperimentArgument, print_text, readable_errors
from service.cli.report import report_of_experiment, report_of_run

app = typer.Typer()


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
    print_text(written)


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
    print_text(f"{written[0]} and {len(written) - 1} more files beside it")


@app.command()
def encoder(
    experiment: ExperimentArgument,
    *,
    trial: Annotated[
        int | None,
        typer.Option("--trial", "-t", min=0, help="A trial's number; default: the best of the best configuration."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File; default: experiment-N-trial-M-encoder.safetensors."),
    ] = None,
) -> None:
    """Download the encoder of a trial: one file, which `adadim_core.load_encoder` takes."""
    with readable_errors(), open_client() as client:
        found = Experiment(client, client.experiment(experiment))
        chosen: Trial = found.best() if trial is None else found.trial(trial)
        file = chosen.download_encoder(output)
        print_text(f"{file}: trial {chosen.number} ({chosen.label})")
