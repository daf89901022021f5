"""A run takes a folder for itself: no two runs in it at once, and none that computes something else.

Owns what a run checks and clears before its first trial, and how failures of the storage then read.
"""

import fcntl
import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adadim_core.spec import ExperimentSpec, SpecError, validate_spec
from adadim_core.spec.extension import continues
from adadim_core.storage.object_store import StorageAway
from workers.errors import RunError
from workers.storage.folder import PATIENCE_SECONDS, Storage, read_json

logger = logging.getLogger(__name__)

_FREE = ("name", "description", "labels", "from_preset", "retries", "resources", "stop")
"""Sections that may change between attempts: they do not change what is computed."""


def prepare(storage: Storage, spec: ExperimentSpec) -> None:
    """Create the folder, or continue in the one that an earlier attempt of the same experiment left.

    Raises:
        RunError: it cannot be written, or holds another experiment.
        StorageAway: the object store is away.
    """
    with usable(storage):
        _clear_node(storage)
        storage.points.mkdir(parents=True, exist_ok=True)
        storage.fetch_records()
        stored = read_json(storage.spec)
        if stored is not None:
            _check_same(storage, spec, stored)
        storage.write_json(storage.spec, spec.model_dump(mode="json"))
        storage.experiment_id()
        shutil.rmtree(storage.tune, ignore_errors=True)


def set_apart(storage: Storage) -> None:
    """Begin anew: what earlier runs left goes into a folder `earlier-N` of its own; the logs go on.

    Raises:
        RunError: it cannot be moved.
    """
    if storage.store is not None:
        raise RunError(f"--restart needs a folder, and {storage.place} is none; give another --storage")
    with usable(storage):
        left = [path for path in storage.root.iterdir() if not path.name.startswith((".", "earlier-", "logs"))]
        if left:
            numbers = itertools.count(1)
            apart = next(path for n in numbers if not (path := storage.root / f"earlier-{n}").exists())
            apart.mkdir()
            for path in left:
                path.rename(apart / path.name)
            print(f"what was in {storage.place} is now in {apart}", flush=True)


@contextmanager
def held(storage: Storage) -> Iterator[None]:
    """Keep other runs out of the folder; the lock of a process that dies is released. An object store has no such lock.

    Raises:
        RunError: another run is at work in it, or it cannot be used.
    """
    if storage.store is not None:
        yield
        return
    with usable(storage):
        storage.root.mkdir(parents=True, exist_ok=True)
        file = (storage.root / ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another run is at work in {storage.place}; wait until it has ended, or give another --storage. "
                "(If there is none, its node may have died without letting go: remove .lock there.)"
            ) from None
        except OSError as error:  # some file systems have no locks
            logger.warning("%s cannot be locked (%s): two runs in it at once would corrupt it", storage.place, error)
        yield


@contextmanager
def usable(storage: Storage) -> Iterator[None]:
    """Where a run begins to use the storage: what fails within it is for the user to mend, and becomes a RunError."""
    try:
        yield
    except StorageAway:
        raise
    except OSError as error:
        raise RunError(f"cannot write to storage {storage.place}: {error}; give another --storage") from error


def _check_same(storage: Storage, spec: ExperimentSpec, stored: Any) -> None:
    """Raise RunError if the stored spec is another one, and not one that this one adds trials to."""
    try:
        # Read anew: one that an earlier version stored lacks fields that came with a default since.
        given = spec.model_dump(mode="json")
        same = continues(validate_spec({**stored, **{name: given[name] for name in _FREE}}), spec)
    except SpecError as error:
        raise RunError(
            f"{storage.place} holds results of another spec, one that is not valid any more (see spec.json there): "
            f"{error}; give another --storage"
        ) from error
    if not same:
        raise RunError(
            f"{storage.place} holds results of another spec (see spec.json there); give another --storage, or the "
            "same spec to continue it, with more search.seeds or search.trials at most"
        )


def _clear_node(storage: Storage) -> None:
    """Begin with an empty folder where it is scratch; but logs that a killed process left here count."""
    if storage.store is None:
        return
    logs = [*storage.root.glob("trials/*/log*.txt"), *storage.root.glob("logs/*.log")]
    sizes = storage.store.sizes(patience=PATIENCE_SECONDS) if logs else {}
    storage.push(*(log for log in logs if log.stat().st_size > sizes.get(storage.key(log), 0)))
    for path in storage.root.glob("*"):
        if path.name != "logs":  # this driver may write there already
            storage.clear_scratch(path)
