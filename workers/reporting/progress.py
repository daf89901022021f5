"""Follows the trials of a run: keeps their latest results, reports to the service, prints progress lines."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from adadim_core.spec import TrialPlan
from adadim_core.spec.metrics import summary_titles
from workers.reporting.attempt import Attempt
from workers.storage.data_record import NewData
from workers.storage.trial_result import ENDED_WELL, TrialResult

_LINE_SECONDS = 1.0
_SHOWN = summary_titles("loss")


class Progress:
    """The latest result of every trial, by number."""

    def __init__(self, attempt: Attempt, plans: Iterable[TrialPlan], data: NewData) -> None:
        self.results: dict[int, TrialResult] = {}
        self._planned = {plan.number: plan.params for plan in plans}
        self._attempt = attempt
        self._printed: dict[int, float] = {}
        self._data = data

    def update(self, result: TrialResult) -> None:
        """A trial changed. An update without metrics keeps those known."""
        before = self.results.get(result.number)
        if before is not None and not result.metrics:
            result = replace(result, metrics=before.metrics, epoch=max(result.epoch, before.epoch))
        self.results[result.number] = result
        self._attempt.update(
            result.number,
            result.state,
            epoch=result.epoch,
            epochs=result.epochs,
            error=result.error,
            reason=result.reason,
            params=result.params if result.params != self._planned[result.number] else None,
        )
        if result.state != "pending":  # it may have read them
            for name, facts in self._data.of_trial(result.params):
                self._attempt.tell_data(name, facts)
        if self._worth_a_line(result):
            self._printed[result.number] = time.monotonic()
            print(_line(result), flush=True)

    def ended_well(self) -> list[TrialResult]:
        """Of the trials that finished."""
        return [result for result in self.results.values() if result.state in ENDED_WELL]

    def change(self, number: int, params: dict[str, Any]) -> None:
        """A trial continues with other values."""
        self.update(replace(self.results[number], params=params))

    def wait_for(self, what: str) -> None:
        """The run waits for something; an empty text: for nothing any more."""
        self._attempt.wait_for(what)

    def interrupt(self) -> None:
        """The run ends here: what was running is interrupted."""
        for result in list(self.results.values()):
            if result.state == "running":
                self.update(replace(result, state="interrupted"))

    def _worth_a_line(self, result: TrialResult) -> bool:
        if result.state == "running":
            recent = time.monotonic() - self._printed.get(result.number, float("-inf")) < _LINE_SECONDS
            return 0 < result.epoch < result.epochs and not recent
        return result.state != "pending"


def _line(result: TrialResult) -> str:
    head = f"trial {result.number}  epoch {result.epoch}/{result.epochs}"
    if result.state != "running":
        head += f"  {result.state}"
    if result.error:
        return f"{head}: {result.error.splitlines()[0]}"
    if result.reason:
        head += f" ({result.reason})"
    values = (f"{label} {result.metrics[name]:.4g}" for name, label in _SHOWN.items() if name in result.metrics)
    return "  ".join([head, *values])
