"""Reads and removes files of a run's storage, a folder or an object store, that others can write to.

Owns what makes that safe: only regular files below the run's folder are opened, no link is followed, whoever made it,
and nothing blocks, as opening a FIFO would. Otherwise anyone who can write to the storage could make the reader show
any file it can read, or block its threads.
"""

import errno
import json
import logging
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from adadim_core.storage.address import folder, in_object_store
from adadim_core.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

_LARGEST_DOCUMENT = 64 * 2**20


class NotRegular(FileNotFoundError):  # noqa: N818 - as IsADirectoryError
    """Not a regular file, so it is not read: a link, a FIFO, a device, a folder. It counts as missing."""


def open_file(location: str, key: str) -> tuple[Any, int]:
    """A file of a run, opened for reading, and its size in bytes. To be used as a context, and read in pieces.

    Args:
        location: The run's folder, or its address in an object store.
        key: The file's name below it, as layout.py gives it.

    Raises:
        FileNotFoundError: there is none; NotRegular if it is something else, or if a link is on the way to it.
        OSError: it cannot be read.
        ValueError: the key names no file below the folder.
    """
    if in_object_store(location):
        return ObjectStore(location).open(key)
    file = open_regular(folder(location), key)
    return file, os.fstat(file.fileno()).st_size


def read_end(location: str, key: str, limit: int) -> bytes:
    """The last bytes of a file of a run, at most `limit`; empty if there is none. Raises as `open_file` does."""
    try:
        file, size = open_file(location, key)
    except FileNotFoundError:
        return b""
    with file:
        file.seek(max(size - limit, 0))
        return bytes(file.read(limit))


def read_whole(location: str, key: str, limit: int) -> bytes | None:
    """A small file of a run; None if there is none.

    Raises:
        OSError: it has more than `limit` bytes, or as for `open_file`.
    """
    try:
        file, size = open_file(location, key)
    except FileNotFoundError:
        return None
    with file:
        if size > limit:
            raise OSError(f"{key} has {size} bytes, more than the {limit} that are read of it")
        return bytes(file.read(limit))


def open_regular(run: Path, key: str) -> BufferedReader:
    """A regular file below a run's folder, opened for reading. Raises as `open_file` does.

    The folder's own name is checked like every part of the key; what lies above it is the operator's choice, and may be
    a link.
    """
    *parents, name = _parts(run, key)
    descriptors = [os.open(run.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for parent in parents:
            descriptors.append(_open(parent, os.O_RDONLY | os.O_DIRECTORY, descriptors[-1], run / key))
        # Without O_NONBLOCK, opening a FIFO would wait for its writer.
        descriptor = _open(name, os.O_RDONLY | os.O_NONBLOCK, descriptors[-1], run / key)
    finally:
        for opened in descriptors:
            os.close(opened)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(run / key)
    return os.fdopen(descriptor, "rb")


def read_document(path: Path) -> Any:
    """A JSON document in a folder that others can write to.

    Raises:
        FileNotFoundError: there is none, or it is no regular file.
        OSError: it cannot be read.
        ValueError: it is not JSON, too deep, or larger than a run writes.
    """
    with open_regular(path.parent.resolve(), path.name) as file:
        text = file.read(_LARGEST_DOCUMENT + 1)
    if len(text) > _LARGEST_DOCUMENT:
        raise ValueError("too large to be of a run")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def remove_run(location: str) -> None:
    """Remove a run's folder with its content; a missing or half removed one is no error. Raises OSError."""
    if in_object_store(location):
        ObjectStore(location).remove_all()
        return
    run = folder(location)
    if run.is_symlink():  # somebody put it in the folder's place: what it points to is not the run's
        run.unlink()
        return
    try:
        shutil.rmtree(run)
    except FileNotFoundError:
        if run.exists():  # something in it went away while it was removed: once more
            remove_run(location)


def _parts(run: Path, key: str) -> list[str]:
    """The run's own name and the parts of the key."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise ValueError(f"{key!r} names no file below {run}")
    return [run.name, *parts]


def _open(name: str, flags: int, parent: int, path: Path) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):  # a link, no folder on the way, a socket
            raise _not_regular(path) from None
        raise OSError(error.errno, error.strerror, str(path)) from None


def _not_regular(path: Path) -> NotRegular:
    logger.warning("%s is not read: it is no regular file, or a link is on the way to it", path)
    return NotRegular(errno.ENOENT, "no regular file, or behind a link", str(path))
