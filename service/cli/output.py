"""What every command prints with, and how it ends when something a user can mend goes wrong."""

import contextlib
import json
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from adadim.client import ClientError
from service.settings import SettingsError

# As wide as the terminal, as COLUMNS says, or else 80 columns: whoever reads a pipe or a file has `--json`.
# What is shown is others' text, whose brackets and colons are no markup; where it is meant, `markup=True` says so.
console = Console(markup=False, emoji=False, highlight=False)

ExperimentArgument = Annotated[int, typer.Argument(help="Number of the experiment, as `adadim list` shows it.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every field, for programs.")]


def print_json(value: Any, *, in_one_line: bool = False) -> None:
    """Print values as JSON, in ASCII: any program and any terminal takes it, whatever text is in there."""
    typer.echo(json.dumps(value, indent=None if in_one_line else 2))


def print_text(text: str, *, indent: str = "") -> None:
    """Print a text within the width, lines after the first indented. A longer word, as a link, stays whole."""
    for line in text.splitlines():
        wrapped = textwrap.wrap(
            line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        console.print("\n".join(wrapped), soft_wrap=True)


def print_queued(url: str, experiment: dict[str, Any]) -> None:
    """Say that an experiment was taken, and where it is seen."""
    number = experiment["id"]
    print_text(f"Experiment {number} ({experiment['name']}) is queued: {url}/experiments/{number}")


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Errors a user can mend end the command with their text; Ctrl-C ends it without a trace."""
    try:
        yield
    except (ClientError, SettingsError, OSError, UnicodeDecodeError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        Console(stderr=True).print(f"Error: {text}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def brief(text: str) -> str:
    """A reason without the accounts that follow it after an empty line, tracebacks say."""
    return text.partition("\n\n")[0]
