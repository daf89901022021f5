"""Results: one file a trial, the table of all of them, and how it reads on a screen.

Owns the ranking of trials. Does not own the metric points: those are the spools under points/.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from adadim_core.spec import ExperimentSpec, TrialPlan, trial_label
from adadim_core.spec.metrics import summary_titles
from adadim_core.spec.report import TrialState, decode_float, encode_float
from workers.storage.folder import Storage, read_json

ENDED_WELL = ("succeeded", "stopped")
_NUMBER = re.compile(r"\d[\d.]*")


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended."""

    number: int
    params: dict[str, Any]
    state: TrialState
    epoch: int = 0
    """Epochs completed."""
    epochs: int = 0
    """Epochs planned."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every metric."""
    seconds: float = 0.0
    """Time in the process that finished it."""
    error: str | None = None
    reason: str | None = None
    """Why it was stopped early."""


def write_result(storage: Storage, result: TrialResult) -> None:
    """Store a finished trial's result; from then on no attempt runs it again."""
    storage.write_json(storage.result(result.number), _document(result))


def read_result(storage: Storage, number: int) -> TrialResult | None:
    """A finished trial's result, or None if it has not finished."""
    document = read_json(storage.result(number))
    return None if document is None else _result(document)


def read_results(storage: Storage) -> list[TrialResult]:
    """What `write_results` stored."""
    document = read_json(storage.results) or {"trials": []}
    return [_result(trial) for trial in document["trials"]]


def write_results(storage: Storage, spec: ExperimentSpec, results: Iterable[TrialResult]) -> None:
    """Store the table of all trials, best marked."""
    results = list(results)
    metric, mode = ranking(spec)
    winner = best(spec, results)
    storage.write_json(
        storage.results,
        {
            "name": spec.name,
            "metric": metric,
            "mode": mode,
            "best": winner.number if winner else None,
            "best_checkpoint": storage.shown(storage.checkpoint(winner.number)) if winner else None,
            "trials": [_document(result) | {"label": trial_label(spec, result.params)} for result in results],
        },
    )


def best(spec: ExperimentSpec, results: Iterable[TrialResult]) -> TrialResult | None:
    """The finished trial that ranks first, stopped ones included; None if none has a number for the metric."""
    metric, mode = ranking(spec)
    ranked = [r for r in results if r.state in ENDED_WELL and math.isfinite(r.metrics.get(metric, math.nan))]
    sign = 1.0 if mode == "max" else -1.0
    return max(ranked, key=lambda result: (sign * result.metrics[metric], -result.number), default=None)


class BestCheckpoint:
    """Of finished trials, keeps the checkpoint of the best one and removes the others' as they end."""

    def __init__(self, spec: ExperimentSpec, storage: Storage, finished: Iterable[TrialResult]) -> None:
        self._spec = spec
        self._storage = storage
        self._kept: list[TrialResult] = []
        there = storage.checkpointed()
        for result in finished:
            if result.number in there:
                self.offer(result)

    def offer(self, result: TrialResult) -> None:
        """A trial changed."""
        if result.state not in ENDED_WELL:
            return
        kept = [*self._kept, result]
        winner = best(self._spec, kept)
        self._kept = [winner] if winner is not None else []
        for other in kept:
            if other is not winner:
                self._storage.remove_checkpoint(other.number)


def chosen(storage: Storage, plan: TrialPlan) -> TrialPlan:
    """A trial of the plan with the values it was given when it ran, where those differ from the planned ones."""
    return TrialPlan(plan.number, read_json(storage.params(plan.number)) or plan.params)


def ranking(spec: ExperimentSpec) -> tuple[str, str]:
    """The metric whose last value ranks trials, and whether more is better."""
    return (spec.search.metric, spec.search.mode) if spec.search else ("knn_top1", "max")


def came_to_something(results: Iterable[TrialResult]) -> bool:
    """Whether any trial ended well and measured something: then the run did not fail."""
    return any(result.state in ENDED_WELL and result.metrics for result in results)


def commonest_error(results: Iterable[TrialResult]) -> str:
    """Why trials failed: the commonest reason first, with one full account of it."""
    errors = [result.error or "no reason given" for result in results if result.state == "failed"]
    if not errors:
        return "no trial came to its first result"
    kinds: dict[str, list[str]] = {}
    for error in errors:  # "at step 12" and "at step 15" are one reason
        kinds.setdefault(_NUMBER.sub("#", error.splitlines()[0]), []).append(error)
    commonest = sorted(kinds.values(), key=len, reverse=True)
    summary = "\n".join(
        f"{len(kind)} of {len(errors)} failed trials: {kind[0].splitlines()[0]}" for kind in commonest[:5]
    )
    example = commonest[0][0]
    return f"{summary}\n\n{example}" if "\n" in example else summary


def print_table(spec: ExperimentSpec, results: Iterable[TrialResult]) -> None:
    """One row a trial, in the order of the plan."""
    from rich.console import Console  # trial processes import this module too, and print no table
    from rich.table import Table

    results = list(results)
    winner, (metric, _) = best(spec, results), ranking(spec)
    table = Table(title=spec.name, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("weighting")
    columns = summary_titles(metric)
    for heading in columns.values():
        table.add_column(heading, justify="right")
    table.add_column("state")
    for result in results:
        first = result is winner
        table.add_row(
            str(result.number),
            trial_label(spec, result.params),
            *(_shown(result.metrics.get(name)) for name in columns),
            ("best, " if first else "") + (f"stopped at {result.epoch}" if result.state == "stopped" else result.state),
            style="bold green" if first else "red" if result.state == "failed" else None,
        )
    # A job's log is no terminal: rich would fold the table to 80 columns.
    console = Console(soft_wrap=True, markup=False)  # a path in a label may look like markup
    console.width = max(console.width, 120)
    console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _result(document: dict[str, Any]) -> TrialResult:
    fields = {key: value for key, value in document.items() if key != "label"}
    fields["metrics"] = {name: decode_float(value) for name, value in fields["metrics"].items()}
    return TrialResult(**fields)


def _document(result: TrialResult) -> dict[str, Any]:
    return asdict(result) | {"metrics": {name: encode_float(value) for name, value in result.metrics.items()}}
