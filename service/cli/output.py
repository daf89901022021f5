"""What every command prints with, and how it ends when something a user can mend goes wrong."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from adadim.client import ClientError
from service.settings import SettingsError

# A pipe or a log file has no width of its own; Rich's 80 columns would fold the tables.
# What is shown is others' text, whose brackets and colons are no markup; where it is meant, `markup=True` says so.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)

ExperimentArgument = Annotated[int, typer.Argument(help="Number of the experiment, as `adadim list` shows it.", min=1)]


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
