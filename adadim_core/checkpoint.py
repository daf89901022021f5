"""Checkpoint files: written whole or not at all, read without running code, checked for damage."""

import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch


class CheckpointError(RuntimeError):
    """A checkpoint or an exported encoder cannot be used. The message says which file and why."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state to a file that is either the whole new one or whatever was there before.

    Args:
        path: the file; its folder is made if need be.
        state: nested dictionaries and lists of tensors, numbers and strings.
    """
    write_atomically(path, lambda file: torch.save(state, file))


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


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a temporary file beside `path`, bring it to disk, then rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
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
