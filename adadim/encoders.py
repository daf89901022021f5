"""From a downloaded encoder to a torch module. The one place of the client that takes torch, when it is called."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adadim.client import ClientError

if TYPE_CHECKING:
    from adadim_core.models import Encoder


def load(download: Callable[[Path], Path], device: str) -> "Encoder":
    """The encoder of a file that `download` writes; the file does not stay.

    Raises:
        ClientError: torch is not installed, or the file is no encoder of this version.
    """
    try:
        from adadim_core.checkpoint import CheckpointError
        from adadim_core.export import load_encoder
    except ImportError as error:
        raise ClientError(f"an encoder takes torch ({error}): pip install 'adadim[core]'") from None
    with tempfile.TemporaryDirectory(prefix="adadim-") as folder:
        try:
            return load_encoder(download(Path(folder) / "encoder.safetensors"), device=device)
        except CheckpointError as error:
            raise ClientError(str(error)) from None
