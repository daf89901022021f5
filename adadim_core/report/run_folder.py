"""A report's material from the folder of a run that was made without the service."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.report.material import Curve, Material, wanted_metrics
from adadim_core.spec import SpecError, validate_spec
from adadim_core.storage import layout
from adadim_core.storage.points_file import opened_points
from adadim_core.storage.reading import read_document


class NoRunError(Exception):
    """The folder holds no results of a run. The text is for people."""


def material_of_run(folder: Path, metrics: Sequence[str] | None = None) -> Material:
    """What `python -m workers` left in a folder: its table, its spec and its points.

    Args:
        folder: of the run.
        metrics: those whose curves are wanted; None: those that a report draws.

    Raises:
        NoRunError: there are no results, or they cannot be read.
    """
    results, spec = _document(folder / layout.RESULTS), _document(folder / layout.SPEC)
    try:
        rows = [
            TrialRow(
                trial["number"],
                trial["params"],
                trial["state"],
                trial["epoch"],
                trial["epochs"],
                {name: float(value) for name, value in trial["metrics"].items() if value is not None},
            )
            for trial in results["trials"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoRunError(f"{folder / layout.RESULTS} is not what a run writes ({error!r})") from None
    found = answer(_question(spec), rows)
    return Material(
        name=str(results.get("name", folder.name)),
        spec=spec,
        answer=found,
        curves=_curves(folder / layout.PARQUET, list(metrics or wanted_metrics(found))),
        source=f"results of the run in {folder.name}",
        versions=results.get("environment") or {},
    )


def _question(spec: dict[str, Any]) -> Question:
    try:
        return Question.of(validate_spec(spec))
    except SpecError:  # an earlier version stored it
        return Question.of_stored(spec)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = read_document(path)
    except FileNotFoundError:
        raise NoRunError(f"{path.parent} holds no {path.name}: name the folder that a run wrote") from None
    except (OSError, ValueError) as error:
        raise NoRunError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise NoRunError(f"{path} is not what a run writes")
    return document


def _curves(path: Path, metrics: list[str]) -> dict[str, dict[int, Curve]]:
    """Metric to trial to its course. Without points.parquet, which a run writes at its end, there are none."""
    import pyarrow as pa
    from pyarrow import compute

    schema = pa.schema(
        [("trial", pa.int64()), ("metric", pa.string()), ("step", pa.int64()), ("epoch", pa.float64()),
         ("value", pa.float64())]
    )  # fmt: skip
    try:
        with opened_points(path) as file:
            table = file.read(columns=schema.names, use_threads=False).select(schema.names).cast(schema).drop_null()
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise NoRunError(f"{path} cannot be read, it may be damaged: {error}") from None
    found: dict[str, dict[int, Curve]] = {}
    for metric in metrics:
        rows = table.filter(compute.equal(table["metric"], metric)).sort_by(
            [("trial", "ascending"), ("step", "ascending")]
        )
        trials, epochs, values = (rows[name].to_numpy() for name in ("trial", "epoch", "value"))
        begins = [0, *(np.flatnonzero(np.diff(trials)) + 1).tolist()] if len(trials) else []
        ends = [*begins[1:], len(trials)]
        curves = {
            int(trials[begin]): Curve(epochs[begin:end].tolist(), values[begin:end].tolist())
            for begin, end in zip(begins, ends, strict=False)
        }
        if curves:
            found[metric] = curves
    return found
