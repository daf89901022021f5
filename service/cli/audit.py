"""`adadim audit`: who did what. Takes an admin's token."""

import itertools
from datetime import datetime
from typing import Annotated, Any

import typer

from adadim.connection import open_client
from service.cli import times
from service.cli.output import AsJson, console, print_json, print_text, readable_errors

app = typer.Typer()

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@app.command()
def audit(
    *,
    by: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, or what begins so: token, experiment.removed.")] = None,
    experiment: Annotated[int | None, typer.Option(min=1, help="Only of this experiment, also a deleted one.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, help="From this time on.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who did what to experiments, deleted ones too, tokens and sessions, oldest first (admins only)."""
    asked = {"by": by, "action": action, "experiment": experiment, "since": _iso(since), "until": _iso(until)}
    with readable_errors(), open_client() as client:
        found = list(itertools.islice(client.audit(**asked), limit))[::-1]
        if as_json:
            print_json(found)
            return
        if not found:
            console.print("Nothing was done that fits.")
            return
        console.print(times.headed("time", (entry["at"] for entry in found)) + ", who, what")
        for entry in found:
            print_text(_line(entry), indent="  ")


def _line(entry: dict[str, Any]) -> str:
    number = "" if entry["experiment_id"] is None else f" {entry['experiment_id']}"
    details = ", ".join(f"{name} {value}" for name, value in entry["details"].items() if value is not None)
    what = f"{entry['action']}{number} ({entry['subject']})"
    return f"{times.second(entry['at'])}  {entry['by']}  {what}{': ' if details else ''}{details}"


def _iso(time: datetime | None) -> str | None:
    """A time of this machine's with its zone."""
    return None if time is None else time.astimezone().isoformat()
