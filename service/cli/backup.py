"""`adadim backup` and `adadim restore`: beside the service, with the settings that `adadim serve` would use."""

import os
from pathlib import Path
from typing import Annotated

import typer

from service.cli.output import console, readable_errors
from service.settings import Settings

app = typer.Typer()


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; there must be none of this name.")],
) -> None:
    """Write everything the database holds, and a list of the storage's files, to one archive. The service may run."""
    from service.cli.backup_run import run_backup  # as in serve: the other commands need none of it

    with readable_errors():
        os.umask(0o077)
        _say(run_backup(Settings.from_environ(), file))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `adadim backup` wrote. Restore only your own.")],
    *,
    take_storage: Annotated[
        bool,
        typer.Option(
            "--take-storage",
            help="ADADIM_STORAGE holds the original's files, or a copy, and is this installation's from now on.",
        ),
    ] = False,
) -> None:
    """Fill an empty database from a backup. The copy has a key of its own, and leaves the original's jobs alone."""
    from service.cli.backup_run import run_restore  # as in serve

    with readable_errors():
        os.umask(0o077)
        _say(run_restore(Settings.from_environ(), file, take=take_storage))


def _say(lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
