"""The results of a run: results.json and its table on a screen, or why a run without results failed.

Does not own the statement at its end, which is that of adadim_core/answers.
"""

import re
from collections.abc import Iterable
from typing import Any

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer
from adadim_core.spec import ExperimentSpec, trial_label
from adadim_core.spec.metrics import summary_titles
from workers.storage.data_record import read_all_data
from workers.storage.environment import environment
from workers.storage.folder import Storage, read_json
from workers.storage.ranking import best, ranking
from workers.storage.trial_result import ENDED_WELL, TrialResult, from_document, to_document

_NUMBER = re.compile(r"\d[\d.]*")


def read_results(storage: Storage) -> list[TrialResult]:
    """What `write_results` stored."""
    document = read_json(storage.results) or {"trials": []}
    return [from_document(trial) for trial in document["trials"]]


def write_results(storage: Storage, spec: ExperimentSpec, results: Iterable[TrialResult]) -> None:
    """Store the table of all trials and the answer they give."""
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
            "answer": answer_of(spec, results).model_dump(mode="json"),
            "environment": environment(),
            "data": list(read_all_data(storage).values()),
            "trials": [to_document(result) | {"label": trial_label(spec, result.params)} for result in results],
        },
    )


def run_succeeded(results: Iterable[TrialResult]) -> bool:
    """Whether any trial ended well and measured something: then the run did not fail."""
    return any(result.state in ENDED_WELL and result.metrics for result in results)


def refusal(results: Iterable[TrialResult]) -> str | None:
    """Why the run must not continue, whatever its trials measured before; None: it may."""
    return next((result.error for result in results if result.refused), None)


def commonest_error(results: Iterable[TrialResult]) -> str:
    """Why trials failed: the commonest reason first, with one full account of it."""
    errors = [result.error or "no reason given" for result in results if result.state == "failed"]
    if not errors:
        return "no trial reached its first result"
    kinds: dict[str, list[str]] = {}
    for error in errors:  # "at step 12" and "at step 15" are one reason
        kinds.setdefault(_NUMBER.sub("#", error.splitlines()[0]), []).append(error)
    commonest = sorted(kinds.values(), key=len, reverse=True)
    summary = "\n".join(
        f"{len(kind)} of {len(errors)} failed trials: {kind[0].splitlines()[0]}" for kind in commonest[:5]
    )
    example = commonest[0][0]
    return f"{summary}\n\n{example}" if "\n" in example else summary


def answer_of(spec: ExperimentSpec, results: Iterable[TrialResult]) -> Answer:
    """Which configuration is best, by how much, and what is not known."""
    rows = [TrialRow(r.number, r.params, r.state, r.epoch, r.epochs, r.metrics) for r in results]
    return answer(Question.of(spec), rows)


def print_results(spec: ExperimentSpec, results: Iterable[TrialResult]) -> None:
    """One row a trial, in the order of the plan, then the answer."""
    from rich.table import Table  # trial processes import this module too, and print no table

    from adadim_core.answers.terminal import WIDTH, render
    from adadim_core.console import SafeConsole

    results = list(results)
    table = Table(title=spec.name, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("weighting")
    columns = summary_titles(ranking(spec)[0])
    for heading in columns.values():
        table.add_column(heading, justify="right")
    table.add_column("state")
    for result in results:
        table.add_row(
            str(result.number),
            trial_label(spec, result.params),
            *(_shown(result.metrics.get(name)) for name in columns),
            f"stopped at {result.epoch}" if result.state == "stopped" else result.state,
            style="red" if result.state == "failed" else None,
        )
    # A job's log is no terminal: rich would fold the tables to 80 columns.
    console = SafeConsole(soft_wrap=True, markup=False)  # a path in a label may look like markup
    console.width = max(console.width, WIDTH)
    console.print(table)
    console.print(render(answer_of(spec, results), console.width), highlight=False)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
