"""Files written whole or not at all: a process that dies while writing leaves the earlier file in place."""

import glob
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    keep: Path | None = None,
    mode: int = 0o666,
    durable: bool = True,
) -> None:
    """Call `write` with a temporary file beside `path`, bring it to disk, then rename it over `path`.

    Args:
        path: The file to write; its folder is created if needed.
        write: Writes its content.
        keep: Where in the same folder to keep the earlier file; None: it is replaced.
        mode: Permissions of the file, less the process's umask. It never exists with wider ones.
        durable: Whether it must survive a loss of power, not just the death of the process.

    Raises:
        OSError: it cannot be written; the earlier file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        with os.fdopen(descriptor, "wb+") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o666, durable: bool = True) -> None:
    """Write a text, as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode()), mode=mode, durable=durable)


def leftovers(path: Path) -> Iterator[Path]:
    """Temporary files of processes that died while they wrote `path`, or that are writing it now."""
    return path.parent.glob(f".{glob.escape(path.name)}.*.tmp")


def sync_folder(folder: Path) -> None:
    """Bring a rename to disk, where the system lets folders be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
