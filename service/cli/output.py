"""What every command prints with, and how it ends when something a user can mend goes wrong."""

import contextlib
import io
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from adadim.client import ClientError
from adadim_core.console import SafeConsole
from adadim_core.terminal import LONGEST_LINE, terminal_text
from service.settings import SettingsError

_NARROWEST = 20
# As wide as the terminal, as COLUMNS says, or else 80 columns: whoever reads a pipe or a file has `--json`.
# What is shown is others' text, whose brackets and colons are no markup; where it is meant, `markup=True` says so.
console = SafeConsole(markup=False, emoji=False, highlight=False)
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # what an encoding lacks is escaped, as Python does in stderr
if console.width < _NARROWEST:  # COLUMNS=0, of a terminal that does not know its own
    console.width = 80

ExperimentArgument = Annotated[int, typer.Argument(help="Number of the experiment, as `adadim list` shows it.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every field, for programs.")]


def print_json(value: Any, *, in_one_line: bool = False) -> None:
    """Print values as JSON, in ASCII: any program and any terminal takes it, whatever text is in there."""
    typer.echo(json.dumps(value, indent=None if in_one_line else 2))


def print_text(text: str, *, indent: str = "") -> None:
    """Print a text within the width, lines after the first indented. A longer word, as a link, stays whole."""
    for line in terminal_text(text).splitlines():
        wrapped = textwrap.wrap(
            line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        console.print("\n".join(wrapped), soft_wrap=True)


def print_aside(text: str, *, style: str | None = None) -> None:
    """Print to standard error, for the person before the terminal."""
    SafeConsole(stderr=True).print(
        terminal_text(text), style=style, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def print_pieces(pieces: Iterable[str]) -> None:
    """Print a text as it comes. On a terminal its lines are cut where they are too long; a file gets all of them."""
    in_line = 0
    for piece in pieces:
        text = terminal_text(piece.replace("\r\n", "\n").replace("\r", "\n"), longest=None)
        if sys.stdout.isatty():
            lines = text.split("\n")
            for at, line in enumerate(lines):
                in_line = len(line) + (in_line if at == 0 else 0)
                lines[at] = line[: max(len(line) - max(in_line - LONGEST_LINE, 0), 0)]
            text = "\n".join(lines)
        sys.stdout.write(text)
        sys.stdout.flush()


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
        print_aside(f"Error: {text}", style="red")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def brief(text: str) -> str:
    """A reason without the accounts that follow it after an empty line, tracebacks say."""
    return text.partition("\n\n")[0]
