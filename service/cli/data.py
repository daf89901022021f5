"""`adadim data PATH`: what would be read of a data set, before anything is submitted.

The reading is adadim_core.data's, in a process of its own: it takes torch, which the service does without.
"""

import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from adadim.client import ClientError
from service.cli.output import AsJson, readable_errors

app = typer.Typer()

_NEEDED = {"torch": "torch", "numpy": "numpy", "PIL": "pillow"}


@app.command()
def data(
    path: Annotated[str, typer.Argument(help="File or folder of the data, as in data.path of a spec.")],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Which data set it is; default: by the names of its files.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=4, max=1024, help="Side images are to be resized to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be read of a data set, what passed over, and which files are bad; exit code 1 if any is."""
    with readable_errors():
        missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
        if missing:
            raise ClientError(f"reading data takes {', '.join(missing)}: pip install 'adadim[core]'")
    options = [f"--dataset={dataset}"] if dataset else []
    options += [f"--image-size={image_size}"] if image_size else []
    options += ["--json"] if as_json else []
    # -P: what lies in the current folder is data, no Python modules.
    command = [sys.executable, "-P", "-m", "adadim_core.data", *options, "--", path]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
