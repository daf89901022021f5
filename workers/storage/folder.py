"""The folder of one experiment on this node: paths of its files, and their way to and from the object store.

In a shared folder the files are where they are written, under the same path on every node. In an object store the same
files are objects; every node works in a folder of its own, whose files count once they are pushed. That folder is
scratch: a node that is lost, or comes back with old files, changes nothing. The names of the files are
adadim_core.storage.layout's; who may use the folder is claim.py's to say.
"""

import json
import logging
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from adadim_core.storage import layout
from adadim_core.storage.address import join, shown
from adadim_core.storage.atomic import write_text
from adadim_core.storage.object_store import ObjectStore
from adadim_core.storage.reading import read_document

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
"""How long a process waits for an object store that is away before it gives up."""


class Storage:
    """Paths of one experiment's files under `root`, an absolute folder, and their way to and from the object store.

    In a folder `push`, `fetch` and `fetch_records` have nothing to do.
    """

    def __init__(self, root: Path, store: ObjectStore | None = None) -> None:
        """
        Args:
            root: The folder, or a node's own folder for the files of an object store.
            store: The object store; None: the folder is shared by the nodes.
        """
        self.root = root
        self.location = store.location if store is not None else str(root)
        self.store = store
        self.spec = root / layout.SPEC
        self.points = root / layout.POINTS
        self.results = root / layout.RESULTS
        self.parquet = root / layout.PARQUET
        self.tune = root / layout.TUNE
        self.elapsed = root / layout.ELAPSED
        self.train = join(self.location, layout.TUNE)
        """Ray Train's part of it, which all its processes must reach."""

    def trial(self, number: int) -> Path:
        return self.root / layout.trial(number)

    def checkpoint(self, number: int) -> Path:
        return self.root / layout.checkpoint(number)

    def trial_log(self, number: int) -> Path:
        return self.root / layout.trial_log(number)

    def driver_log(self, attempt: str) -> Path:
        return self.root / layout.driver_log(attempt)

    def undelivered(self, attempt: str) -> Path:
        return self.root / layout.undelivered(attempt)

    def result(self, number: int) -> Path:
        return self.root / layout.result(number)

    def params(self, number: int) -> Path:
        return self.root / layout.params(number)

    def failures(self, number: int) -> Path:
        return self.root / layout.failures(number)

    def spool(self, number: int, run: str) -> Path:
        """A file for one process's points: a trial that restarts elsewhere must not overwrite what it left."""
        return self.root / layout.spool(number, run, uuid.uuid4().hex[:6])

    @property
    def place(self) -> str:
        """Where it is, for people: without the keys and settings an address may carry."""
        return shown(self.location)

    def shown(self, path: Path) -> str:
        """Where a file lies, for people."""
        return f"{self.place.rstrip('/')}/{self.key(path)}" if self.store else str(path)

    def push(self, *paths: Path, patience: float = PATIENCE_SECONDS) -> None:
        """Make files count, in the order given. Those that are not there are passed over.

        Raises:
            StorageAway: the object store was away for `patience` seconds.
            OSError: it does not take them.
        """
        if self.store is not None:
            for path in paths:
                if path.exists():
                    self.store.put(path, self.key(path), patience=patience)

    def fetch(self, path: Path) -> bool:
        """Have a file here as the object store has it, which may be: not. Returns whether it exists."""
        if self.store is None:
            return path.exists()
        found = self.store.get(self.key(path), path, patience=PATIENCE_SECONDS)
        if not found:
            path.unlink(missing_ok=True)
        return found

    def take_up_log(self, path: Path) -> None:
        """Have a log here as it was left, to go on in it. Raises as `push` does."""
        if self.store is not None and not path.exists():
            self.store.get(self.key(path), path, patience=PATIENCE_SECONDS)

    def push_log(self, path: Path) -> None:
        """Store a log whose writer closed it. One that does not arrive stays here, until the next attempt here."""
        if self.store is not None:
            files = [file for file in (self.root / layout.earlier_log(self.key(path)), path) if file.exists()]
            try:
                self.push(*files, patience=0)
            except OSError as error:
                logger.warning("%s did not reach the storage: %s", path.name, error)
            else:
                for file in files:
                    file.unlink()

    def fetch_records(self) -> None:
        """Bring every small record (JSON files, spools) here that is not, or is longer there than here."""
        if self.store is None:
            return
        for key, size in self.store.sizes(patience=PATIENCE_SECONDS).items():
            path = self.root / key
            record = path.suffix in (".json", ".jsonl", ".ack") and not key.startswith("tune/")
            if record and (not path.exists() or path.stat().st_size < size):
                self.store.get(key, path, patience=PATIENCE_SECONDS)

    def forget(self, *paths: Path) -> None:
        """Remove files from the object store."""
        if self.store is not None:
            for path in paths:
                self.store.remove(self.key(path))

    def checkpointed(self) -> set[int]:
        """Numbers of the trials that have a checkpoint, be it the one before one that was never finished."""
        if self.store is None:
            names = (layout.CHECKPOINT, layout.PREVIOUS_CHECKPOINT)
            return {int(path.parent.name) for name in names for path in self.root.glob(f"trials/*/{name}")}
        keys = map(PurePosixPath, self.store.sizes(patience=PATIENCE_SECONDS))
        return {int(key.parent.name) for key in keys if key.match(f"trials/*/{layout.CHECKPOINT}")}

    def remove_checkpoint(self, number: int) -> None:
        """Remove a trial's checkpoint, with the one before it and what killed processes left of others.

        What cannot be removed stays, with a warning.
        """
        try:
            for path in self.trial(number).glob(f"*{layout.CHECKPOINTS}*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot remove the checkpoint of trial %d: %s", number, error)
        self.forget(self.checkpoint(number))

    def clear_scratch(self, path: Path) -> None:
        """Remove a file or a folder that only holds copies of what is in the object store."""
        if self.store is not None and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif self.store is not None:
            path.unlink(missing_ok=True)

    def write_json(self, path: Path, document: Any) -> None:
        """Write a file whole or not at all, and make it count."""
        write_json(path, document)
        self.push(path)

    def experiment_id(self) -> str:
        """The identifier of this experiment; made at the first call."""
        path = self.root / layout.ID
        if path.exists() or self.fetch(path):
            known = path.read_text().strip()
            if known:  # an earlier version could be killed between making the file and writing it
                return known
        made = uuid.uuid4().hex
        write_text(path, made)
        self.push(path)
        return made

    def key(self, path: Path) -> str:
        """The name of a file below the folder."""
        return path.relative_to(self.root).as_posix()


def read_json(path: Path) -> Any | None:
    """The document in a file, or None if it is missing, was cut off, or is nothing that a run writes."""
    try:
        return read_document(path)
    except (FileNotFoundError, ValueError):
        return None


def write_json(path: Path, document: Any) -> None:
    """Write a file whole or not at all."""
    write_text(path, json.dumps(document, indent=1, allow_nan=False))
