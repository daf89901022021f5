"""The commands of `adadim`. Each is a few lines over the client; errors are one readable line and exit code 1."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from adadim.client import ClientError
from adadim.connection import open_client
from adadim.spec_file import spec_text
from adadim_core.spec import configuration_of, parse_spec, trial_label
from adadim_core.spec.presets import PRESETS, Preset, departures
from adadim_core.spec.problems import spelt
from adadim_core.version import VERSION
from service.cli.audit import app as audit_app
from service.cli.backup import app as backup_app
from service.cli.data import app as data_app
from service.cli.demo import demo as run_demo
from service.cli.files import app as files_app
from service.cli.init import app as init_app
from service.cli.lifecycle import app as lifecycle_app
from service.cli.output import AsJson, console, print_json, print_queued, print_text, readable_errors
from service.cli.reading import app as reading_app
from service.cli.tokens import app as tokens_app
from service.cli.watch import watch as watch_experiment
from service.settings import Settings

app = typer.Typer(
    epilog="Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(init_app)
app.add_typer(reading_app)
app.add_typer(lifecycle_app)
app.add_typer(files_app)
app.add_typer(data_app)
app.add_typer(tokens_app, name="token")
app.add_typer(backup_app)
app.add_typer(audit_app)

SpecArgument = Annotated[
    Path, typer.Argument(help="YAML or JSON file with the spec; - reads standard input.", allow_dash=True)
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"adadim {VERSION}")
        raise typer.Exit


@app.callback()
def adadim(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Sweep AdaDim loss weightings and watch H(R) and I(R;Z) live."""


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
def migrate() -> None:
    """Bring the database of DATABASE_URL to this version's schema; `serve` does so too, in its own time."""
    from service.cli.serve import migrate as run  # as in serve
    from service.starting import ServeError

    with readable_errors():
        try:
            run(Settings.from_environ())
        except ServeError as error:
            raise ClientError(str(error)) from None


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check database, migrations, cluster, storage and clocks, and say what to do; exit code 1 if one fails."""
    from service.cli.doctor import examine  # as in serve

    with readable_errors():
        findings = asyncio.run(examine(Settings.from_environ()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print_text(f"{'ok  ' if finding.ok else 'fail'} {finding.name:14} {finding.text}", indent=" " * 20)
            if not finding.ok:
                print_text(f"{'':20}{finding.remedy}", indent=" " * 20)
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
    as_json: AsJson = False,
) -> None:
    """Submit a spec as an experiment."""
    with readable_errors(), open_client() as client:
        text = spec_text(spec, client.url)
        answer = client.submit(text, dry_run=dry_run, priority=priority)
        if as_json and not follow:
            print_json(answer)
        elif dry_run:
            _print_plan(text, answer)
        if dry_run:
            return
        if not as_json:
            print_queued(client.url, answer)
        if follow and watch_experiment(client, answer["id"], console, as_json=as_json)["state"] != "succeeded":
            raise typer.Exit(1)


def _print_plan(text: str, plan: dict[str, Any]) -> None:
    parsed = parse_spec(text)
    if preset := PRESETS.get(parsed.from_preset or ""):
        print_text(_of_preset(preset, plan["spec"]), indent="  ")
    print_text(f"The spec is valid; it would run {plan['summary']}:")
    for trial in plan["trials"]:
        params = trial["params"]
        shown = _assignments(params) or "as specified"
        if parsed.search is not None and not configuration_of(params):
            shown = trial_label(parsed, params)  # TPE has yet to choose
        print_text(f"  {trial['number']}  {shown}", indent="     ")


def _of_preset(preset: Preset, fields: Mapping[str, Any]) -> str:
    """Which preset filled a spec in, and where the spec says otherwise."""
    others = [f"{path}={spelt(own)} (not {spelt(value)})" for path, value, own in departures(preset.values, fields)]
    return f"Preset {preset.name}, {preset.description}{'; but ' if others else ''}{'  '.join(others)}."


def _assignments(params: dict[str, Any]) -> str:
    """Values as `--set` takes them."""
    return "  ".join(f"{path}={spelt(value)}" for path, value in params.items())


@app.command()
def demo(spec: SpecArgument = Path("examples/digits-sweep.yaml")) -> None:
    """Run a sweep on scikit-learn's digits from start to end: service, live view, answer."""
    with readable_errors():
        if not run_demo(spec, console):
            raise typer.Exit(1)


if __name__ == "__main__":
    app()
