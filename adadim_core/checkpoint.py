"""Checkpoint files: written whole or not at all, read without running code, checked for damage.

Two are kept: `checkpoint.pt` and, beside it, the one before, `checkpoint.previous.pt`.
"""

import logging
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint or an exported encoder cannot be used. The message says which file and why."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state to a file that is the whole new one or not there; what was there is kept as the one before it.

    Args:
        path: the file; its folder is made if need be.
        state: nested dictionaries and lists of tensors, numbers and strings.
    """

    def write(file: BinaryIO) -> None:
        torch.save(state, file)

    write_atomically(path, write, keep=previous_checkpoint(path))


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before that of `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and the one before it, if they are there."""
    path.unlink(missing_ok=True)
    previous_checkpoint(path).unlink(missing_ok=True)


def read_latest_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint or, where it is damaged or its replacement was cut short, the one before it.

    Falling back is logged as a warning.

    Raises:
        FileNotFoundError: there is neither.
        CheckpointError: the file is damaged, and there is no whole one before it.
    """
    previous = previous_checkpoint(path)
    try:
        return read_checkpoint(path, device)
    except (FileNotFoundError, CheckpointError) as error:
        if not previous.exists():
            raise
        logger.warning("%s; going on from the one before, %s", error, previous)
        return read_checkpoint(previous, device)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state back, its tensors on the device.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, damaged or not a checkpoint.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.load does not compare checksums: a flipped bit would become a wrong weight.
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged (checksum of {damaged}); use an earlier checkpoint")
        state = torch.load(path, map_location=device, weights_only=True)
    except (zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} is truncated or not a checkpoint ({error}); use an earlier one") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a training state")
    return state


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Call `write` with a temporary file beside `path`, bring it to disk, then rename it over `path`.

    Args:
        path: the file to write.
        write: writes its content.
        keep: where in the same folder to keep what was at `path`; None: it goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to disk, where the system lets folders be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
