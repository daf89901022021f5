"""An object store (s3://, gs://) as the place of an experiment's files: put, get, list, remove, through pyarrow.

Owns the requests and how long a failing one is tried again. Which files there are, and when they move, is storage.py's.
An object appears whole or not at all: a process that dies while it writes one leaves the one before.
"""

import logging
import mmap
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from workers.errors import RunError

logger = logging.getLogger(__name__)

SCHEMES = ("s3", "gs", "gcs")
_GOOGLE_RETRY_SECONDS = 10  # as long as the AWS client tries by itself, about: no signal gets through meanwhile
_CHUNK_BYTES = 8 * 1024 * 1024

# What a store says that is away or overloaded, in the words of pyarrow; anything else would be said again.
_AWAY = re.compile(
    r"AWS Error (NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE"
    r"|UNKNOWN \(HTTP status (408|425|429|5(?!01|05|07)\d\d)\))"
    r"|google::cloud::Status\((UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|RESOURCE_EXHAUSTED|ABORTED):"
)

T = TypeVar("T")


def _nothing(*_: str) -> None:
    """What is done until a driver wants more."""


before_retry: Callable[[], None] = _nothing
"""Called before a request is tried again; what it raises ends the wait. A driver looks there for its end."""
on_away: Callable[[str], None] = _nothing
"""Told when a store was away for as long as somebody was patient."""


class StorageAway(OSError):  # noqa: N818 - a state of the store
    """The object store failed for as long as a process is patient."""


class Remote:
    """The objects under one address. Keys are relative to it."""

    def __init__(self, location: str, *, patience: float = 0.0) -> None:
        """
        Args:
            location: as s3://bucket/folder; settings may follow, as ?endpoint_override=host:9000&scheme=http.
            patience: seconds to wait for a store that is away.

        Raises:
            RunError: no such store, or no way into it.
            StorageAway: it was away all the time.
        """
        from pyarrow import fs  # half a second, which runs in a folder do without

        def enter() -> Any:
            store, base = fs.FileSystem.from_uri(_bounded(location))
            if not base.rstrip("/"):
                raise OSError("it names no bucket")
            bucket = base.partition("/")[0]
            if store.get_file_info(bucket).type == fs.FileType.NotFound:
                raise OSError(f"there is no bucket {bucket}")
            return store, base.rstrip("/")

        try:
            self._fs, self._base = _persistently(enter, "opening the storage", patience)
        except StorageAway:
            raise
        except OSError as error:
            why = str(error).replace(location, shown(location))
            raise RunError(f"cannot use storage {shown(location)}: {why}") from None  # the cause would show its keys

    def put(self, file: Path, key: str, *, patience: float = 0.0) -> None:
        """Store a file.

        Raises:
            StorageAway: the store was away for `patience` seconds.
            OSError: it does not take the file, or the file cannot be read.
        """

        def send() -> None:
            import pyarrow as pa

            # One write of what is mapped already: leaving the `with` by an exception between two writes would
            # close the stream, and that makes an object of the first half.
            with file.open("rb") as source:
                empty = not os.fstat(source.fileno()).st_size
                content = pa.py_buffer(b"" if empty else mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))
            with self._fs.open_output_stream(self._path(key)) as sink:
                sink.write(content)

        _persistently(send, f"writing {key}", patience)

    def get(self, key: str, file: Path, *, patience: float = 0.0) -> bool:
        """Bring an object to a file, whole or not at all. Returns whether there is one. Raises as `put` does."""

        def receive() -> bool:
            part = file.with_name(f"{file.name}.{os.getpid()}.part")
            try:
                with self._fs.open_input_stream(self._path(key)) as source:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with part.open("wb") as sink:
                        shutil.copyfileobj(source, sink, _CHUNK_BYTES)
            except FileNotFoundError:
                return False
            part.replace(file)
            return True

        return _persistently(receive, f"reading {key}", patience)

    def sizes(self, *, patience: float = 0.0) -> dict[str, int]:
        """Every object with its size in bytes. Raises as `put` does."""

        def look() -> list[Any]:
            from pyarrow import fs

            selector = fs.FileSelector(self._base, recursive=True, allow_not_found=True)
            found: list[Any] = self._fs.get_file_info(selector)
            return found

        infos = _persistently(look, "listing", patience)
        return {info.path[len(self._base) + 1 :]: int(info.size) for info in infos if info.is_file}

    def remove(self, key: str) -> None:
        """Remove an object if it is there. What cannot be removed stays, with a warning."""
        try:
            self._fs.delete_file(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("cannot remove %s from storage: %s", key, error)

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}"


def _bounded(location: str) -> str:
    """Google's client would try for a quarter of an hour before it says that it cannot get in."""
    if location.startswith("s3://") or "retry_limit_seconds=" in location:
        return location
    return f"{location}{'&' if '?' in location else '?'}retry_limit_seconds={_GOOGLE_RETRY_SECONDS}"


def shown(location: str) -> str:
    """An address for people: without the keys and settings it may carry."""
    return re.sub(r"//[^?]*@", "//", location).partition("?")[0]


def _persistently(act: Callable[[], T], what: str, patience: float) -> T:
    """Do something, again and again while the store is away, for `patience` seconds.

    Raises:
        StorageAway: it was away all the time.
        OSError: it failed for a reason that does not pass: rights, a bucket that is gone, a full disk here.
    """
    from pyarrow import ArrowException

    deadline, wait = time.monotonic() + patience, 0.5
    while True:
        try:
            return act()
        except (OSError, ArrowException) as error:
            if not _AWAY.search(str(error)):
                if isinstance(error, OSError):
                    raise
                raise OSError(f"{what} failed: {error}") from error
            if time.monotonic() + wait >= deadline:
                if patience:
                    on_away(f"the storage is away: {what} failed: {error}")
                raise StorageAway(f"{what} failed: {error}") from error
            logger.warning("%s failed (%s); trying again", what, str(error)[:200])
        until = time.monotonic() + random.uniform(wait / 2, wait)
        while time.monotonic() < until:
            before_retry()
            time.sleep(min(0.25, wait))
        wait = min(wait * 2, 15.0)
