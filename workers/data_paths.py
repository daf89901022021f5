"""What a relative `data.path` means, and which data a driver can see is missing. Reads no data.

A trial runs in a scratch folder of Ray's: a path that a user wrote is his own folder's. Where the nodes have data roots
(ADADIM_DATA_ROOTS) a relative path is theirs, and is left as it is.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from adadim_core.data.errors import DataError
from adadim_core.data.roots import ROOTS_VARIABLE, resolve
from adadim_core.spec import ExperimentSpec, TrialPlan
from adadim_core.spec.sections import SourceSpec


def is_relative(path: str | None) -> bool:
    """Whether a spec's path means something else in another folder."""
    return path is not None and not Path(path).expanduser().is_absolute() and not os.environ.get(ROOTS_VARIABLE)


def paths_of(spec: ExperimentSpec, plans: Iterable[TrialPlan]) -> list[str]:
    """Every data.path of these trials, once; none if there are trials that need no path."""
    found: dict[str | None, None] = {}
    for plan in plans:
        varied = {path: value for path, value in plan.params.items() if path.partition(".")[0] == "data"}
        found[(spec.with_params(varied) if varied else spec).data.path] = None
    return [] if None in found else [path for path in found if path is not None]


def folder_of(paths: Iterable[str], places: Sequence[Path]) -> Path:
    """The folder that relative paths begin in: the first place that has one of them, else the first."""
    wanted = [path for path in paths if is_relative(path)]
    return next((place for place in places if any((place / path).exists() for path in wanted)), places[0]).absolute()


def absolute(spec: ExperimentSpec, folder: Path) -> ExperimentSpec:
    """The spec with the paths of its data, those of a second set too, from the folder on, where they are relative."""
    transfer = spec.evaluation.transfer
    second = None if transfer is None else _absolute(transfer, folder)
    evaluation = spec.evaluation.model_copy(update={"transfer": second})
    return spec.model_copy(update={"data": _absolute(spec.data, folder), "evaluation": evaluation})


_Source = TypeVar("_Source", bound=SourceSpec)


def _absolute(source: _Source, folder: Path) -> _Source:
    return source.model_copy(update={"path": str(folder / str(source.path))}) if is_relative(source.path) else source


def places(paths: Iterable[str], folder: Path) -> list[str]:
    """Paths as a trial reads them, where relative ones begin in the folder."""
    return [str(folder / path) if is_relative(path) else path for path in paths]


def second_path(spec: ExperimentSpec) -> list[str]:
    """The path of the second data set, if every trial is judged on it."""
    source = spec.evaluation.transfer
    searched = spec.search is not None and any(path.startswith("evaluation") for path in spec.search.space)
    return [source.path] if source is not None and source.path is not None and not searched else []


def unseen(paths: Iterable[str], field: str = "data.path") -> list[str]:
    """What is wrong with paths as this process sees them: they do not exist, or lead out of the data roots."""
    problems = []
    for path in dict.fromkeys(paths):
        try:
            resolve(path)
        except DataError as error:
            problems.append(f"{field}: {error}")
    return problems
