"""What was read of an experiment's data sets: data/KEY.json, written by the first trial that trains on one.

Owns that all trials of an experiment, in all attempts, train on the same images. What the facts are is
adadim_core/data/summary.py's.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.sections import DataSpec
from adadim_core.storage import layout
from workers.storage.folder import Storage, read_json

REMEDY = (
    "put the data back and go on (adadim retry), or train anew on what is there now, apart from the old points "
    "(adadim retry --restart, which makes a new experiment; without the service python -m workers SPEC --storage PLACE "
    "--restart, which sets apart what is in a folder; for an object store, another --storage)"
)


def data_record(storage: Storage, data: DataSpec) -> Path:
    """Where the facts about the data set of a section lie. How images are resized or augmented makes no other set."""
    place = json.dumps([data.dataset, data.path, data.bad_files])
    return storage.root / layout.DATA / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"


def known_data(storage: Storage, data: DataSpec) -> dict[str, Any] | None:
    """The facts as the first trial found them; None: no trial has trained on that set."""
    path = data_record(storage, data)
    storage.fetch(path)
    known: dict[str, Any] | None = read_json(path)
    return known


def keep_data(storage: Storage, data: DataSpec, facts: Mapping[str, Any]) -> None:
    """Store what the first trial found."""
    storage.write_json(data_record(storage, data), facts)


def read_all_data(storage: Storage) -> dict[str, dict[str, Any]]:
    """The facts about every data set of the experiment, by a name of its place."""
    found = {path.stem: read_json(path) for path in sorted((storage.root / layout.DATA).glob("*.json"))}
    return {name: facts for name, facts in found.items() if facts is not None}


class NewData:
    """Finds, for the driver, the data sets that trials have begun to train on."""

    def __init__(self, spec: ExperimentSpec, storage: Storage) -> None:
        self._spec, self._storage = spec, storage
        self._told: set[Path] = set()

    def of_trial(self, params: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and facts of the data set of a trial that trains, once."""
        varied = any(path == "data" or path.startswith("data.") for path in params)
        data = self._spec.with_params(dict(params)).data if varied else self._spec.data
        path = data_record(self._storage, data)
        if path in self._told:
            return
        facts = known_data(self._storage, data)
        if facts is not None:
            self._told.add(path)
            yield path.stem, facts
