"""`adadim init`: writes a commented spec, after a few questions or by flags alone."""

import functools
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from adadim.client import ClientError
from adadim_core.spec import SpecError, plan_summary
from adadim_core.spec.datasets import DATASETS
from adadim_core.storage.atomic import write_text
from service.cli.output import print_text, readable_errors
from service.cli.spec_template import Size, Vary, Wishes, template

app = typer.Typer()

_DEFAULTS = Wishes()


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.", allow_dash=True)] = Path(
        "experiment.yaml"
    ),
    *,
    name: Annotated[str | None, typer.Option(help="Name of the experiment.")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"{', '.join(DATASETS)}.")] = None,
    path: Annotated[str | None, typer.Option(help="File or folder of the data; digits needs none.")] = None,
    vary: Annotated[Vary | None, typer.Option(help="What the sweep varies.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=50, help="Seeds of every configuration.")] = None,
    size: Annotated[Size | None, typer.Option(help="Network: for a CPU, or as in the paper.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: what suits the network.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: what is not given has its default.")] = False,
) -> None:
    """Write a commented spec to start from; asks for what no option says, if there is a terminal."""
    with readable_errors():
        if str(file) != "-" and file.exists():
            raise ClientError(f"{file} exists; name another file: adadim init FILE")
        given: dict[str, Any] = {
            "name": name, "dataset": dataset, "path": path, "vary": vary, "seeds": seeds, "size": size,
            "epochs": epochs,
        }  # fmt: skip
        if dataset is not None and dataset not in DATASETS:
            raise ClientError(f"no data set {dataset}: there are {', '.join(DATASETS)}")
        if not yes and _at_a_terminal():
            _ask(given)
        try:
            text, spec = template(Wishes(**{key: value for key, value in given.items() if value is not None}))
        except SpecError as error:
            raise ClientError("\n".join(f"{found.pointer}: {found.message}" for found in error.problems)) from None
        if str(file) == "-":
            typer.echo(text, nl=False)
            return
        write_text(file, text)
    print_text(f"{file}: {plan_summary(spec)}\nRead it, then: adadim submit {file} --watch")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(given: dict[str, Any]) -> None:
    """Fill in what was not given, by questions whose answers are defaults or checked."""

    def ask(key: str, question: str, choices: tuple[str, ...] | None = None) -> None:
        if given[key] is None:
            default = getattr(_DEFAULTS, key)
            words = f"{question} ({', '.join(choices)})" if choices else question
            check = functools.partial(_one_of, choices) if choices else None
            given[key] = typer.prompt(words, default=default, type=type(default), value_proc=check)

    ask("name", "Name of the experiment")
    ask("dataset", "Data set", tuple(DATASETS))
    if given["path"] is None and DATASETS[given["dataset"]].needs_path:
        print_text(DATASETS[given["dataset"]].origin)
        given["path"] = typer.prompt("Its file or folder")
    ask("size", "Network", get_args(Size))
    ask("vary", "What varies", get_args(Vary))
    if given["vary"] != "nothing":
        ask("seeds", "Seeds of every configuration")


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(choices)}")
    return text
