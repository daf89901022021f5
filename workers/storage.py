"""The folder of one experiment: where every file of a run lies. Owns the layout, reads and writes small files.

    spec.json                     the experiment; a folder holds one
    points/NNNN-RUN.jsonl (.ack)  metric points of a trial, as one run measured them
    trials/NNNN/checkpoint.pt     where the trial goes on after an interruption
    trials/NNNN/encoder.*         the exported encoder of a finished trial
    trials/NNNN/result.json       written last: a trial that has it is finished and never runs again
    trials/NNNN/params.json       values chosen or changed while the experiment ran: TPE and PBT
    results.json                  the whole table
    elapsed.json                  time spent so far, of a budget
    tune/                         Ray Tune's scratch space

The folder must be reachable under the same path from every node of the cluster.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from adadim_core.spec import ExperimentSpec
from workers.errors import RunError


class Storage:
    """Paths of one experiment's files under `root`, an absolute folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.points = root / "points"
        self.results = root / "results.json"
        self.tune = root / "tune"
        self.elapsed = root / "elapsed.json"

    def trial(self, number: int) -> Path:
        return self.root / "trials" / f"{number:04d}"

    def checkpoint(self, number: int) -> Path:
        return self.trial(number) / "checkpoint.pt"

    def result(self, number: int) -> Path:
        return self.trial(number) / "result.json"

    def params(self, number: int) -> Path:
        return self.trial(number) / "params.json"

    def spool(self, number: int, run: str) -> Path:
        return self.points / f"{number:04d}-{run}.jsonl"

    def prepare(self, spec: ExperimentSpec) -> None:
        """Create the folder, or take up the one an earlier attempt of the same experiment left.

        Raises:
            RunError: it cannot be written, or holds another experiment.
        """
        spec_file = self.root / "spec.json"
        try:
            self.points.mkdir(parents=True, exist_ok=True)
            stored = read_json(spec_file)
            # retries, resources and when to stop may change between attempts without changing what is computed
            if stored is not None and _identity(stored) != _identity(spec.model_dump(mode="json")):
                raise RunError(
                    f"{self.root} holds results of another spec (see spec.json there); give another --storage, "
                    "or the same spec to continue it"
                )
            write_json(spec_file, spec.model_dump(mode="json"))
            shutil.rmtree(self.tune, ignore_errors=True)
        except OSError as error:
            raise RunError(f"cannot write to storage {self.root}: {error}; give another --storage") from error


def open_storage(location: str) -> Storage:
    """Storage for a folder as a user or the service names it.

    Raises:
        RunError: the location is not a folder.
    """
    if "://" in location and not location.startswith("file://"):
        raise RunError(
            f"storage {location} is not a folder; results go to a folder that every node shares "
            "(object stores are not supported yet)"
        )
    return Storage(Path(location.removeprefix("file://")).expanduser().absolute())


def read_json(path: Path) -> Any | None:
    """The document in a file, or None if it is missing or was cut off."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_json(path: Path, document: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document, indent=1, allow_nan=False))
    part.replace(path)


def _identity(spec: dict[str, Any]) -> dict[str, Any]:
    free = ("name", "description", "retries", "resources", "stop")
    return {key: value for key, value in spec.items() if key not in free}
