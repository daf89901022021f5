"""How one trial ended: result.json, and the values it ran with where those are not the planned ones.

Owns what the file holds. A trial that has it is finished and never runs again.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adadim_core.spec import TrialPlan
from adadim_core.spec.report import TrialState, decode_float, encode_float
from workers.storage.folder import Storage, read_json

ENDED_WELL = ("succeeded", "stopped")
"""States of a trial that ended with a result."""


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
    refused: bool = False
    """Whether it failed because the experiment must not continue as it is: its data changed."""
    reason: str | None = None
    """Why it was stopped early."""


def write_result(storage: Storage, result: TrialResult) -> None:
    """Store a finished trial's result; from then on no attempt runs it again."""
    storage.write_json(storage.result(result.number), to_document(result))


def read_result(storage: Storage, number: int) -> TrialResult | None:
    """A finished trial's result, or None if it has not finished."""
    document = read_json(storage.result(number))
    return None if document is None else from_document(document)


def chosen(storage: Storage, plan: TrialPlan) -> TrialPlan:
    """A trial of the plan with the values it was given when it ran, where those differ from the planned ones."""
    stored = read_json(storage.params(plan.number)) or {}
    return replace(plan, params={**plan.params, **stored})


def from_document(document: dict[str, Any]) -> TrialResult:
    """A trial's result from its JSON form. One of results.json has the trial's label beside it."""
    fields = {key: value for key, value in document.items() if key != "label"}
    fields["metrics"] = {name: decode_float(value) for name, value in fields["metrics"].items()}
    return TrialResult(**fields)


def to_document(result: TrialResult) -> dict[str, Any]:
    """A trial's result as JSON: numbers that JSON does not have become words."""
    return asdict(result) | {"metrics": {name: encode_float(value) for name, value in result.metrics.items()}}
