"""A report's material from the folder of a run that was made without the service."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.report.material import Curve, Material, wanted_metrics
from adadim_core.spec import SpecError, validate_spec
from adadim_core.storage import layout

_LARGEST_JSON = 64 * 2**20


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
        if path.stat().st_size > _LARGEST_JSON:
            raise NoRunError(f"{path} is too large to be the results of a run")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoRunError(f"{path.parent} holds no {path.name}: name the folder that a run wrote") from None
    except (OSError, ValueError) as error:
        raise NoRunError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise NoRunError(f"{path} is not what a run writes")
    return document


def _curves(path: Path, metrics: list[str]) -> dict[str, dict[int, Curve]]:
    """Metric to trial to its course. Without points.parquet, which a run writes at its end, there are none."""
    from pyarrow import ArrowException, parquet

    if not path.exists():
        return {}
    found: dict[str, dict[int, Curve]] = defaultdict(dict)
    try:
        table = parquet.read_table(
            path, columns=["trial", "metric", "step", "epoch", "value"], filters=[("metric", "in", metrics)]
        )
    except (OSError, ArrowException) as error:
        raise NoRunError(f"{path} cannot be read, it may be damaged: {error}") from None
    for row in table.sort_by([("trial", "ascending"), ("step", "ascending")]).to_pylist():
        curve = found[row["metric"]].setdefault(row["trial"], Curve([], []))
        curve.epochs.append(row["epoch"])
        curve.values.append(row["value"])
    return dict(found)
