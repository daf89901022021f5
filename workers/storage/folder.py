"""The folder of one experiment: where every file of a run lies. Owns the layout, reads and writes small files.

    spec.json                     the experiment; a folder holds one
    points/NNNN-RUN.jsonl (.ack)  metric points of a trial, as one run measured them
    trials/NNNN/checkpoint.pt     where the trial goes on after an interruption; of finished trials the best one's stays
    trials/NNNN/encoder.*         the exported encoder of a finished trial
    trials/NNNN/result.json       written last: a trial that has it is finished and never runs again
    trials/NNNN/log.txt (.1)      what the trial printed
    logs/attempt-N.log (.1)       what the driver printed, in attempt N (`local` without the service)
    trials/NNNN/params.json       values chosen or changed while the experiment ran: TPE and PBT
    trials/NNNN/failures.json     how often it raised, and what at last
    results.json                  the whole table
    points.parquet                every metric point once, written when a run ends
    id                            tells this experiment from others with the same spec
    elapsed.json                  time spent so far, of a budget
    tune/                         Ray Tune's scratch space

A folder must be reachable under the same path from every node of the cluster. In an object store the same files are
objects; every node works in a folder of its own, whose files count once they are pushed. That folder is scratch: a node
that is lost, or comes back with old files, changes nothing.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from adadim_core.spec import ExperimentSpec, SpecError, validate_spec
from workers.errors import RunError
from workers.storage.object_store import SCHEMES, Remote, StorageAway, shown

logger = logging.getLogger(__name__)

_FREE = ("name", "description", "retries", "resources", "stop")
"""Sections that may change between attempts: they do not change what is computed."""

PATIENCE_SECONDS = 300.0
"""How long a process waits for an object store that is away before it gives up."""


class Storage:
    """Paths of one experiment's files under `root`, an absolute folder, and their way to and from the object store.

    In a folder `push`, `fetch` and `fetch_records` have nothing to do.
    """

    def __init__(self, root: Path, location: str | None = None) -> None:
        """
        Args:
            root: The folder, or a node's own folder for the files of an object store.
            location: The object store's address; None: there is none.

        Raises:
            RunError: the object store cannot be used.
            StorageAway: it is away.
        """
        self.root = root
        self.location = location or str(root)
        self._remote = Remote(location, patience=PATIENCE_SECONDS) if location else None
        self.points = root / "points"
        self.results = root / "results.json"
        self.parquet = root / "points.parquet"
        self.tune = root / "tune"
        self.elapsed = root / "elapsed.json"
        address, mark, settings = self.location.partition("?")
        self.train = f"{address.rstrip('/')}/tune{mark}{settings}"
        """Ray Train's part of it, which all its processes must reach."""

    def trial(self, number: int) -> Path:
        return self.root / "trials" / f"{number:04d}"

    def checkpoint(self, number: int) -> Path:
        return self.trial(number) / "checkpoint.pt"

    def trial_log(self, number: int) -> Path:
        return self.trial(number) / "log.txt"

    def driver_log(self, attempt: str) -> Path:
        return self.root / "logs" / f"attempt-{attempt}.log"

    def result(self, number: int) -> Path:
        return self.trial(number) / "result.json"

    def params(self, number: int) -> Path:
        return self.trial(number) / "params.json"

    def failures(self, number: int) -> Path:
        return self.trial(number) / "failures.json"

    def spool(self, number: int, run: str) -> Path:
        """A file for one process's points: a trial that restarts elsewhere must not overwrite what it left."""
        return self.points / f"{number:04d}-{run}-{uuid.uuid4().hex[:6]}.jsonl"

    @property
    def place(self) -> str:
        """Where it is, for people: without the keys and settings an address may carry."""
        return shown(self.location) if self._remote else self.location

    def shown(self, path: Path) -> str:
        """Where a file lies, for people."""
        return f"{self.place.rstrip('/')}/{self._key(path)}" if self._remote else str(path)

    def push(self, *paths: Path, patience: float = PATIENCE_SECONDS) -> None:
        """Make files count, in the order given. Those that are not there are passed over.

        Raises:
            StorageAway: the object store was away for `patience` seconds.
            OSError: it does not take them.
        """
        if self._remote is not None:
            for path in paths:
                if path.exists():
                    self._remote.put(path, self._key(path), patience=patience)

    def fetch(self, path: Path) -> bool:
        """Have a file here as the object store has it, which may be: not. Returns whether it exists."""
        if self._remote is None:
            return path.exists()
        found = self._remote.get(self._key(path), path, patience=PATIENCE_SECONDS)
        if not found:
            path.unlink(missing_ok=True)
        return found

    def take_up_log(self, path: Path) -> None:
        """Have a log here as it was left, to go on in it.

        Raises:
            RunError: the storage cannot be used. A driver's log is the first thing that is looked for in it.
            StorageAway: it is away.
        """
        if self._remote is not None and not path.exists():
            with self._usable():
                self._remote.get(self._key(path), path, patience=PATIENCE_SECONDS)

    def push_log(self, path: Path) -> None:
        """Store a log whose writer closed it. One that does not arrive stays here, until the next attempt here."""
        if self._remote is not None:
            files = [file for file in (path.with_suffix(".1" + path.suffix), path) if file.exists()]
            try:
                self.push(*files, patience=0)
            except OSError as error:
                logger.warning("%s did not reach the storage: %s", path.name, error)
            else:
                for file in files:
                    file.unlink()

    def fetch_records(self) -> None:
        """Bring every small record (JSON files, spools) here that is not, or is longer there than here."""
        if self._remote is None:
            return
        for key, size in self._remote.sizes(patience=PATIENCE_SECONDS).items():
            path = self.root / key
            record = path.suffix in (".json", ".jsonl", ".ack") and not key.startswith("tune/")
            if record and path.name != "encoder.json" and (not path.exists() or path.stat().st_size < size):
                self._remote.get(key, path, patience=PATIENCE_SECONDS)

    def forget(self, *paths: Path) -> None:
        """Remove files from the object store."""
        if self._remote is not None:
            for path in paths:
                self._remote.remove(self._key(path))

    def checkpointed(self) -> set[int]:
        """Numbers of the trials that have a checkpoint, be it the one before one that was never finished."""
        if self._remote is None:
            files = [*self.root.glob("trials/*/checkpoint.pt"), *self.root.glob("trials/*/checkpoint.previous.pt")]
            return {int(path.parent.name) for path in files}
        keys = map(PurePosixPath, self._remote.sizes(patience=PATIENCE_SECONDS))
        return {int(key.parent.name) for key in keys if key.match("trials/*/checkpoint.pt")}

    def remove_checkpoint(self, number: int) -> None:
        """Remove a trial's checkpoint, with the one before it and what killed processes left of others.

        What cannot be removed stays, with a warning.
        """
        try:
            for path in self.trial(number).glob("*checkpoint*.pt*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot remove the checkpoint of trial %d: %s", number, error)
        self.forget(self.checkpoint(number))

    def clear_scratch(self, path: Path) -> None:
        """Remove a file or a folder that only holds copies of what is in the object store."""
        if self._remote is not None and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif self._remote is not None:
            path.unlink(missing_ok=True)

    def write_json(self, path: Path, document: Any) -> None:
        """Write a file whole or not at all, and make it count."""
        write_json(path, document)
        self.push(path)

    def experiment_id(self) -> str:
        """What tells this experiment from others; made at the first call."""
        path = self.root / "id"
        if path.exists() or self.fetch(path):
            known = path.read_text().strip()
            if known:  # an earlier version could be killed between making the file and writing it
                return known
        made = uuid.uuid4().hex
        _write(path, made)
        self.push(path)
        return made

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def prepare(self, spec: ExperimentSpec) -> None:
        """Create the folder, or take up the one an earlier attempt of the same experiment left.

        Raises:
            RunError: it cannot be written, or holds another experiment.
        """
        spec_file = self.root / "spec.json"
        with self._usable():
            self._clear_node()
            self.points.mkdir(parents=True, exist_ok=True)
            self.fetch_records()
            stored = read_json(spec_file)
            if stored is not None:
                self._check_same(spec, stored)
            self.write_json(spec_file, spec.model_dump(mode="json"))
            self.experiment_id()
            shutil.rmtree(self.tune, ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder; a process that dies lets go of it. An object store has no such lock.

        Raises:
            RunError: another run is at work in it, or it cannot be used.
        """
        if self._remote is not None:
            yield
            return
        with self._usable():
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"another run is at work in {self.place}; wait until it has ended, or give another --storage. "
                    "(If there is none, its node may have died without letting go: remove .lock there.)"
                ) from None
            except OSError as error:  # some file systems have no locks
                logger.warning("%s cannot be locked (%s): two runs in it at once would spoil it", self.place, error)
            yield

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """What fails within it at the beginning of a run is for the user to mend."""
        try:
            yield
        except StorageAway:
            raise
        except OSError as error:
            raise RunError(f"cannot write to storage {self.place}: {error}; give another --storage") from error

    def _check_same(self, spec: ExperimentSpec, stored: Any) -> None:
        """Raise RunError if the stored spec is another one."""
        try:
            # Read anew: one that an earlier version stored lacks fields that came with a default since.
            given = spec.model_dump(mode="json")
            same = validate_spec({**stored, **{name: given[name] for name in _FREE}}).model_dump(mode="json") == given
        except SpecError as error:
            raise RunError(
                f"{self.place} holds results of another spec, one that is not valid any more (see spec.json there): "
                f"{error}; give another --storage"
            ) from error
        if not same:
            raise RunError(
                f"{self.place} holds results of another spec (see spec.json there); give another --storage, "
                "or the same spec to continue it"
            )

    def _clear_node(self) -> None:
        """Begin with an empty folder where it is scratch; but logs that a killed process left here count."""
        if self._remote is None:
            return
        logs = [*self.root.glob("trials/*/log*.txt"), *self.root.glob("logs/*.log")]
        sizes = self._remote.sizes(patience=PATIENCE_SECONDS) if logs else {}
        self.push(*(log for log in logs if log.stat().st_size > sizes.get(self._key(log), 0)))
        for path in self.root.glob("*"):
            if path.name != "logs":  # this driver may write there already
                self.clear_scratch(path)


def open_storage(location: str) -> Storage:
    """Storage at a place as a user or the service names it: a folder, or an object store's address.

    Raises:
        RunError: the place is neither, or the object store cannot be used, or this node has no room for its files.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or scheme == "file":
        return Storage(Path(location.removeprefix("file://")).expanduser().absolute())
    if scheme not in SCHEMES:
        raise RunError(
            f"storage {shown(location)}: {scheme}:// is not known; name a folder that every node shares, s3:// or gs://"
        )
    name = hashlib.sha256(location.encode()).hexdigest()[:16]
    return Storage(_scratch() / name, location)


def _scratch() -> Path:
    """Where this node keeps its files of object stores: this user's alone, since its name is easily guessed.

    Raises:
        RunError: somebody else was there first, or it cannot be made.
    """
    folder = Path(tempfile.gettempdir(), f"adadim-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise RunError(f"{folder} is not this user's own folder; remove it, or set TMPDIR to a place that is")
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise RunError(f"cannot keep files in {folder}: {error}; set TMPDIR to a place that holds them") from error
    return folder


def read_json(path: Path) -> Any | None:
    """The document in a file, or None if it is missing or was cut off."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_json(path: Path, document: Any) -> None:
    """Write a file whole or not at all."""
    _write(path, json.dumps(document, indent=1, allow_nan=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # a machine that loses power must not leave the new name on an empty file
    part.replace(path)
