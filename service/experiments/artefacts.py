"""What an experiment is called on the cluster, where its folder is, and its end. What lies in it is the workers'.

The storage is a folder, or a bucket under an address as s3://bucket/folder?endpoint_override=host:9000&scheme=http.
"""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, fs

from service.errors import UnavailableError
from service.settings import Settings

_GOOGLE_RETRIES = "retry_limit_seconds=30"
"""Google's client would try for a quarter of an hour before it says that it cannot get in."""


def prefix(installation_key: str) -> str:
    """How the names of all jobs and folders of this installation begin."""
    return f"adadim-{installation_key}-"


def name(installation_key: str, experiment_id: int) -> str:
    """An experiment's name on the cluster: that of its folder; its jobs have the attempt's number behind it."""
    return f"{prefix(installation_key)}{experiment_id}"


def folder(settings: Settings, job: str) -> str:
    """The storage folder of an experiment.

    Args:
        job: the name of the experiment, or of any of its Ray jobs.
    """
    root, own = settings.storage_root, "-".join(job.split("-")[:3])
    address, mark, options = root.partition("?") if in_bucket(root) else (root, "", "")
    return f"{address.rstrip('/')}/{own}{mark}{options}"


def in_bucket(location: str) -> bool:
    """Whether a place is in an object store."""
    return "://" in location


def shown(location: str) -> str:
    """A place for people: without the keys and settings an address may carry."""
    return re.sub(r"//[^/@]*@", "//", location).partition("?")[0] if in_bucket(location) else location


def reach(location: str) -> None:
    """Raise OSError unless the bucket of a place answers."""
    store, path = _store(location)
    bucket = path.partition("/")[0]
    if store.get_file_info(bucket).type == fs.FileType.NotFound:
        raise OSError(f"there is no bucket {bucket}")


def open_file(location: str, name: str) -> tuple[Any, int]:
    """A file in an experiment's folder, opened for reading, and its size. Raises OSError."""
    store, path = _store(location)
    file = store.open_input_file(f"{path}/{name}")
    return file, file.size()


def away(error: OSError) -> UnavailableError:
    """The answer while a storage cannot be asked."""
    detail = f"The storage does not answer: {error}"
    return UnavailableError(detail, retry_after_s=10)


def remove(location: str) -> None:
    """Remove a folder with all that is in it; one that is gone or half gone is as good. Raises OSError."""
    if in_bucket(location):
        store, path = _store(location)
        store.delete_dir_contents(path, missing_dir_ok=True)
        with contextlib.suppress(OSError):  # a marker of the empty folder, where there is one
            store.delete_dir(path)
        return
    try:
        shutil.rmtree(Path(location))
    except FileNotFoundError:
        if Path(location).exists():  # something in it went away while it was removed: once more
            remove(location)


def _store(location: str) -> tuple[Any, str]:
    """The file system of a place, and its path there. Raises OSError."""
    if not in_bucket(location):
        return fs.LocalFileSystem(), location
    if location.startswith("gs://"):
        location += f"{'&' if '?' in location else '?'}{_GOOGLE_RETRIES}"
    try:
        store, path = fs.FileSystem.from_uri(location)
    except ArrowException as error:  # an address that is none
        raise OSError(str(error)) from None
    return store, path.rstrip("/")
