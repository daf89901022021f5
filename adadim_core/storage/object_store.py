"""An object store (s3://, gs://) that holds an experiment's files: requests through pyarrow, with retries.

Owns which failures are retried. Which files there are and when they move is up to its callers. An object appears whole
or not at all: a process that dies while writing one leaves the earlier one in place.
"""

import contextlib
import logging
import mmap
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from adadim_core.retrying import Backoff, retry
from adadim_core.storage.address import shown, without_keys
from adadim_core.storage.atomic import write_atomically

logger = logging.getLogger(__name__)

T = TypeVar("T")

_GOOGLE_RETRY_SECONDS = 10  # as long as the AWS client tries by itself, about: no signal gets through meanwhile
_CHUNK_BYTES = 8 * 1024 * 1024
_LOOK_SECONDS = 0.25
"""Between two calls of `before_retry` while it is waited."""

# What a store says that is away or overloaded; anything else would be said again. pyarrow raises a bare OSError with
# the store's words, and has no field for its status. tests/storage/test_object_store.py has real requests fail in these
# ways, and fails when a pyarrow says it in other words.
_AWAY = re.compile(
    r"AWS Error (NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE"
    r"|UNKNOWN \(HTTP status (408|425|429|5(?!01|05|07)\d\d)\))"
    r"|google::cloud::Status\((UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|RESOURCE_EXHAUSTED|ABORTED):"
)


class StorageAway(OSError):  # noqa: N818 - a state of the store
    """The object store was unavailable for as long as the caller was willing to wait."""


class ObjectStore:
    """The objects under one address. Keys are relative to it; no error or log record has its credentials."""

    def __init__(
        self,
        location: str,
        *,
        patience: float = 0.0,
        before_retry: Callable[[], object] = lambda: None,
        on_away: Callable[[str], object] = lambda _: None,
    ) -> None:
        """
        Args:
            location: As s3://bucket/folder; settings may follow, as ?endpoint_override=host:9000&scheme=http.
            patience: Seconds to wait for an unavailable store when it is opened.
            before_retry: Called several times a second while a request waits for its next try. May raise.
            on_away: Called with the reason if the store was unavailable for as long as a request could wait.

        Raises:
            StorageAway: it was unavailable all the time.
            OSError: there is no such store, or no access to it.
        """
        from pyarrow import fs  # half a second, which runs in a folder do without

        self.location = location
        self._before_retry = before_retry
        self._on_away = on_away

        def enter() -> tuple[Any, str]:
            store, base = fs.FileSystem.from_uri(_bounded(location))
            if not base.rstrip("/"):
                raise OSError(f"{shown(location)} names no bucket")
            return store, base.rstrip("/")

        self._fs, self._base = self._request(enter, "opening the storage", patience)

    def check(self, *, patience: float = 0.0) -> None:
        """Raise unless the bucket is there and answers: OSError, or StorageAway."""
        from pyarrow import fs

        bucket = self._base.partition("/")[0]

        def look() -> None:
            if self._fs.get_file_info(bucket).type == fs.FileType.NotFound:
                raise OSError(f"there is no bucket {bucket}")

        self._request(look, "opening the storage", patience)

    def put(self, file: Path, key: str, *, patience: float = 0.0) -> None:
        """Store a file.

        Raises:
            StorageAway: the store was unavailable for `patience` seconds.
            OSError: it refuses the file, or the file cannot be read.
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

        self._request(send, f"writing {key}", patience)

    def get(self, key: str, file: Path, *, patience: float = 0.0) -> bool:
        """Bring an object to a file, whole or not at all. Returns whether there is one. Raises as `put` does."""

        def receive() -> bool:
            try:
                with self._fs.open_input_stream(self._path(key)) as source:
                    # A copy of what is stored: nothing is lost with it.
                    write_atomically(file, lambda sink: shutil.copyfileobj(source, sink, _CHUNK_BYTES), durable=False)
            except FileNotFoundError:
                return False
            return True

        return self._request(receive, f"reading {key}", patience)

    def open(self, key: str) -> tuple[Any, int]:
        """An object opened for reading, and its size in bytes.

        Raises:
            FileNotFoundError: there is none.
            StorageAway, OSError: as for `put`.
        """

        def begin() -> tuple[Any, int]:
            file = self._fs.open_input_file(self._path(key))
            return file, int(file.size())

        return self._request(begin, f"reading {key}", 0.0)

    def sizes(self, *, patience: float = 0.0) -> dict[str, int]:
        """Every object with its size in bytes. Raises as `put` does."""

        def look() -> list[Any]:
            from pyarrow import fs

            selector = fs.FileSelector(self._base, recursive=True, allow_not_found=True)
            found: list[Any] = self._fs.get_file_info(selector)
            return found

        infos = self._request(look, "listing", patience)
        return {info.path[len(self._base) + 1 :]: int(info.size) for info in infos if info.is_file}

    def move(self, key: str, to: str) -> None:
        """Give an object another key; the store copies it. Raises as `put` does."""
        self._request(lambda: self._fs.move(self._path(key), self._path(to)), f"moving {key}", 0.0)

    def remove(self, key: str) -> None:
        """Remove an object if it is there. What cannot be removed stays, with a warning."""
        try:
            self._fs.delete_file(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("cannot remove %s from storage: %s", key, without_keys(str(error), self.location))

    def remove_all(self) -> None:
        """Remove every object; it is no error if there is none. Raises as `put` does."""

        def act() -> None:
            self._fs.delete_dir_contents(self._base, missing_dir_ok=True)
            with contextlib.suppress(OSError):  # a marker of the empty folder, where there is one
                self._fs.delete_dir(self._base)

        self._request(act, "removing", 0.0)

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}"

    def _request(self, act: Callable[[], T], what: str, patience: float) -> T:
        """Make a request, with retries while the store is unavailable, for `patience` seconds. Raises as `put` does."""
        from pyarrow import ArrowException

        def once() -> T:
            try:
                return act()
            except (OSError, ArrowException) as error:
                words = without_keys(str(error), self.location)
                if _AWAY.search(words):
                    raise StorageAway(f"{what} failed: {words}") from None  # a cause might show the keys
                if isinstance(error, OSError) and words == str(error):
                    raise  # rights, a bucket that is gone, a full disk here
                raise OSError(f"{what} failed: {words}") from None

        try:
            return retry(
                once,
                StorageAway,
                deadline=time.monotonic() + patience,
                backoff=Backoff(first=0.5),
                failed=lambda error: logger.warning("%s; trying again", str(error)[:300]),
                sleep=self._wait,
            )
        except StorageAway as error:
            if patience:
                self._on_away(f"the storage is away: {error}")
            raise

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._before_retry()
            time.sleep(min(_LOOK_SECONDS, seconds))


def _bounded(location: str) -> str:
    """Google's client would retry for a quarter of an hour before it reports missing access."""
    if location.startswith("s3://") or "retry_limit_seconds=" in location:
        return location
    return f"{location}{'&' if '?' in location else '?'}retry_limit_seconds={_GOOGLE_RETRY_SECONDS}"
