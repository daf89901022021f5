"""From a place as a user or the service names it to the storage: a shared folder, or a node's own for an object store.

Owns where a node keeps its copies of an object store's files.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from adadim_core.storage.address import SCHEMES, folder, in_object_store, shown
from adadim_core.storage.object_store import ObjectStore, StorageAway
from adadim_core.storage.own_folder import own_folder
from workers.errors import RunError
from workers.storage.folder import PATIENCE_SECONDS, Storage


def open_storage(
    location: str,
    *,
    before_retry: Callable[[], object] = lambda: None,
    on_away: Callable[[str], object] = lambda _: None,
) -> Storage:
    """Storage at a place: a folder, or an object store's address.

    Args:
        location: The place.
        before_retry, on_away: As for `ObjectStore`: a driver checks there whether it should end, and learns there
            that its storage is gone.

    Raises:
        RunError: the place is neither, or the object store cannot be used, or this node has no room for its files.
        StorageAway: the object store is away.
    """
    if not in_object_store(location):
        return Storage(folder(location))
    scheme = location.partition("://")[0]
    if scheme not in SCHEMES:
        raise RunError(
            f"storage {shown(location)}: {scheme}:// is not known; name a folder that every node shares, s3:// or gs://"
        )
    root = _scratch() / hashlib.sha256(location.encode()).hexdigest()[:16]
    try:
        store = ObjectStore(location, patience=PATIENCE_SECONDS, before_retry=before_retry, on_away=on_away)
        store.check(patience=PATIENCE_SECONDS)
    except StorageAway:
        raise
    except OSError as error:
        raise RunError(f"cannot use storage {shown(location)}: {error}") from None
    return Storage(root, store)


def _scratch() -> Path:
    """Where this node keeps its files of object stores: this user's alone.

    Raises:
        RunError: the folder cannot be made.
    """
    place = Path(tempfile.gettempdir())
    try:
        return own_folder(place, f"adadim-{os.geteuid()}")
    except OSError as error:
        raise RunError(f"cannot keep files in {place}: {error}; set TMPDIR to a place that holds them") from error
