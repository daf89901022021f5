"""Checkpoint files: written whole or not at all, read without running code, checked for damage.

Two are kept: `checkpoint.pt` and, beside it, the one before, `checkpoint.previous.pt`. A file ends with the SHA-256 of
what comes before, as the comment of its zip archive, so that torch reads it like any other.
"""

import hashlib
import logging
import os
import pickle
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from adadim_core.storage.atomic import leftovers, write_atomically

logger = logging.getLogger(__name__)

_DIGEST = hashlib.sha256().digest_size
_STALE_SECONDS = 3600.0
"""No file takes longer to write: an older temporary file is what a killed process left."""


class CheckpointError(RuntimeError):
    """A checkpoint or an exported encoder cannot be used. The message says which file and why."""


class DataChangedError(CheckpointError):
    """The images are not those that the training began with."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state to a file, whole or not at all; an existing file is kept as the previous checkpoint.

    Args:
        path: the file; its folder is created if needed.
        state: nested dictionaries and lists of tensors, numbers and strings.
    """

    def write(file: BinaryIO) -> None:
        torch.save(state, file)
        # The last two bytes of a zip archive are the length of its comment, which is the digest here.
        file.seek(-2, os.SEEK_END)
        file.write(_DIGEST.to_bytes(2, "little"))
        digest = _digest(file, file.tell())
        file.seek(0, os.SEEK_END)
        file.write(digest)

    for stale in leftovers(path):
        with suppress(FileNotFoundError):
            if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                stale.unlink()
    write_atomically(path, write, keep=previous_checkpoint(path))


def previous_checkpoint(path: Path) -> Path:
    """Where the previous checkpoint of `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, the previous one and the remains of a killed write, as far as they exist."""
    for there in (path, previous_checkpoint(path), _damaged(path), *leftovers(path)):
        there.unlink(missing_ok=True)


def read_latest_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint or, if it is damaged or its replacement was cut short, the previous one.

    Falling back is logged as a warning, and the damaged file is set aside as `checkpoint.damaged.pt`: the next
    checkpoint must not keep it as the previous one.

    Raises:
        FileNotFoundError: neither exists.
        CheckpointError: the file is damaged, and there is no intact previous one.
        OSError, RuntimeError: the file could not be read here and now, as for `read_checkpoint`; nothing is set aside.
    """
    previous = previous_checkpoint(path)
    try:
        return read_checkpoint(path, device)
    except (FileNotFoundError, CheckpointError) as error:
        if not previous.exists():
            raise
        logger.warning("%s; going on from the one before, %s", error, previous)
        state = read_checkpoint(previous, device)
        with suppress(OSError):  # another process of the trial did it, or the folder is only for reading
            path.replace(_damaged(path))
        return state


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state back, its tensors on the device.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, damaged or not a checkpoint.
        OSError: the file cannot be read now: disk, permissions, locks.
        RuntimeError: the device cannot hold the tensors; torch.OutOfMemoryError, for one.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        # torch.load compares no checksums: a flipped bit would become a wrong weight.
        size = file.seek(0, os.SEEK_END) - _DIGEST
        if size < 0 or file.seek(size) != size or file.read() != _digest(file, size):
            raise CheckpointError(f"{path} is truncated, damaged or not a checkpoint; use an earlier one")
        file.seek(0)
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        # If the digest is right, a RuntimeError does not mean damage: memory is short, or the device fails.
        except (pickle.UnpicklingError, ValueError, KeyError, EOFError) as error:
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a training state")
    return state


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first bytes of a file."""
    digest = hashlib.sha256()
    file.seek(0)
    while size:
        chunk = file.read(min(size, 2**20))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def _damaged(path: Path) -> Path:
    return path.with_name(f"{path.stem}.damaged{path.suffix}")
